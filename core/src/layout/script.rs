//! The pickle of a TorchScript module, read as data: objects become their attributes, nothing is called.
//!
//! `pytorch-reader` refuses these objects, whose classes are TorchScript's. What libtorch writes needs few
//! opcodes, and it memoises an object only when that is whole, so values never change behind a memo.

use super::Flaw;
use ::safetensors::Dtype;
use std::collections::HashMap;
use std::rc::Rc;

/// Modules within modules.
const DEEPEST: usize = 200;
/// Far above what any module needs, far below what would keep a core busy.
const MOST_COPIED: usize = 1_000_000;

/// What a pickle builds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Anything that no weight needs.
    Other,
    Int(i64),
    Text(Rc<str>),
    Class(Rc<str>),
    Tuple(Rc<Vec<Value>>),
    /// A module, or a dict with text as keys: by name.
    Object(Rc<Vec<(Rc<str>, Value)>>),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// The bytes that tensors stand in.
#[derive(Debug)]
pub(super) struct Storage {
    name: String,
    dtype: Dtype,
}

/// A tensor within its storage; counts are of elements.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) storage: String,
    pub(super) dtype: Dtype,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

impl Tensor {
    /// Bytes of an element.
    pub(super) fn width(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    /// Bytes from the storage's begin to the end of the last element; nothing where that is no number.
    pub(super) fn extent(&self) -> Option<usize> {
        let count = self.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))?;
        count.checked_mul(self.width())?;
        let mut last = self.offset;
        if count > 0 {
            for (&size, &step) in self.shape.iter().zip(&self.stride) {
                last = last.checked_add((size - 1).checked_mul(step)?)?;
            }
            last = last.checked_add(1)?;
        }
        last.checked_mul(self.width())
    }
}

/// Reads the value of a pickle.
pub(super) fn read(pickle: &[u8]) -> Result<Value, Flaw> {
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    loop {
        let [code] = machine.take::<1>()?;
        if code == b'.' {
            return machine.pop().map(|(value, _)| value);
        }
        machine.step(code)?;
    }
}

/// A value and how deep it is.
type Deep = (Value, usize);

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Deep>,
    marks: Vec<usize>,
    memo: HashMap<u32, Deep>,
    /// Entries copied because a memo held them too, which libtorch never causes.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, code: u8) -> Result<(), Flaw> {
        match code {
            0x80 => self.take::<1>().map(|_| ()),
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => self.take::<8>().and_then(|_| self.push(Value::Other)),
            b'K' => self.take::<1>().and_then(|[n]| self.push(Value::Int(n.into()))),
            b'M' => self.take().and_then(|n| self.push(Value::Int(u16::from_le_bytes(n).into()))),
            b'J' => self.take().and_then(|n| self.push(Value::Int(i32::from_le_bytes(n).into()))),
            0x8a => self.long(),
            b'X' => self.text(),
            b'c' => self.class(),
            b')' => self.push(Value::Tuple(Rc::default())),
            b'}' | b']' => self.push(Value::Object(Rc::default())),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b't' => self.pop_to_mark().and_then(|items| self.tuple(items)),
            0x85..=0x87 => {
                self.pop_last(usize::from(code - 0x84)).and_then(|items| self.tuple(items))
            }
            // Lists hold no weights of a module.
            b'e' => self.pop_to_mark().map(|_| ()),
            b'a' => self.pop().map(|_| ()),
            b'u' => self.pop_to_mark().and_then(|items| self.set(items)),
            b's' => self.pop_last(2).and_then(|items| self.set(items)),
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            0x81 => {
                self.pop_last(2)?;
                self.push(Value::Object(Rc::default()))
            }
            b'b' => self.build(),
            b'q' => self.take::<1>().and_then(|[at]| self.keep(at.into())),
            b'r' => self.take().and_then(|at| self.keep(u32::from_le_bytes(at))),
            b'h' => self.take::<1>().and_then(|[at]| self.get(at.into())),
            b'j' => self.take().and_then(|at| self.get(u32::from_le_bytes(at))),
            other => {
                Err(damaged(&format!("opcode {other:#04x}, which TorchScript does not write")))
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| damaged("its end"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| damaged("its end"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a [u8], Flaw> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.slice(end.ok_or_else(|| damaged("a line without an end"))?)?;
        self.take::<1>()?;
        Ok(line)
    }

    fn push(&mut self, value: Value) -> Result<(), Flaw> {
        self.push_deep(value, 0)
    }

    fn push_deep(&mut self, value: Value, depth: usize) -> Result<(), Flaw> {
        if depth > DEEPEST {
            return Err(damaged(&format!("values nested more than {DEEPEST} deep")));
        }
        self.stack.push((value, depth));
        Ok(())
    }

    fn pop(&mut self) -> Result<Deep, Flaw> {
        if self.marks.last().is_some_and(|&mark| mark == self.stack.len()) {
            return Err(damaged("a missing value"));
        }
        self.stack.pop().ok_or_else(|| damaged("a missing value"))
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Deep>, Flaw> {
        let mut items: Vec<Deep> = (0..count).map(|_| self.pop()).collect::<Result<_, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Deep>, Flaw> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or_else(|| damaged("a missing mark"))?))
    }

    fn tuple(&mut self, items: Vec<Deep>) -> Result<(), Flaw> {
        let depth = deepest(&items) + 1;
        let items = items.into_iter().map(|(value, _)| value).collect();
        self.push_deep(Value::Tuple(Rc::new(items)), depth)
    }

    fn long(&mut self) -> Result<(), Flaw> {
        let [length] = self.take::<1>()?;
        let bytes = self.slice(length.into())?;
        let mut number = [0; 8];
        let is_small = bytes.len() <= 8 && bytes.last().is_none_or(|&top| top < 0x80);
        if !is_small {
            return self.push(Value::Other);
        }
        number[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(number)))
    }

    fn text(&mut self) -> Result<(), Flaw> {
        let length = u32::from_le_bytes(self.take()?);
        let text = String::from_utf8_lossy(self.slice(length as usize)?);
        self.push(Value::Text(text.into()))
    }

    fn class(&mut self) -> Result<(), Flaw> {
        let (module, name) = (self.line()?, self.line()?);
        let [module, name] = [module, name].map(String::from_utf8_lossy);
        self.push(Value::Class(format!("{module}.{name}").into()))
    }

    /// Adds keys and values to the dict below them.
    fn set(&mut self, items: Vec<Deep>) -> Result<(), Flaw> {
        let depth = deepest(&items) + 1;
        let (value, own) = self.pop()?;
        let Value::Object(mut entries) = value else { return self.push_deep(value, own) };
        if Rc::strong_count(&entries) > 1 {
            self.copied += entries.len();
        }
        if self.copied > MOST_COPIED {
            return Err(damaged("a dict that is copied all the time"));
        }
        let added = Rc::make_mut(&mut entries);
        let mut items = items.into_iter();
        while let (Some((key, _)), Some((value, _))) = (items.next(), items.next()) {
            if let Value::Text(key) = key {
                added.push((key, value));
            }
        }
        self.push_deep(Value::Object(entries), own.max(depth))
    }

    /// ('storage', type, name, device, count)
    fn storage(&mut self) -> Result<(), Flaw> {
        let (id, _) = self.pop()?;
        let Value::Tuple(fields) = id else { return Err(damaged("a reference that is none")) };
        let [_, Value::Class(class), Value::Text(name), ..] = &fields[..] else {
            return Err(damaged("a reference that is none"));
        };
        match dtype(class) {
            Some(dtype) => {
                let name = name.to_string();
                self.push(Value::Storage(Rc::new(Storage { name, dtype })))
            }
            None => self.push(Value::Other),
        }
    }

    fn reduce(&mut self) -> Result<(), Flaw> {
        let (arguments, depth) = self.pop()?;
        let (class, _) = self.pop()?;
        let (Value::Class(class), Value::Tuple(arguments)) = (class, arguments) else {
            return self.push(Value::Other);
        };
        match &*class {
            "torch._utils._rebuild_tensor_v2" => match tensor(&arguments) {
                Some(tensor) => self.push(Value::Tensor(Rc::new(tensor))),
                None => self.push(Value::Other),
            },
            "torch.jit._pickle.restore_type_tag" => {
                let value = arguments.first().cloned().unwrap_or(Value::Other);
                self.push_deep(value, depth)
            }
            _ => self.push(Value::Other),
        }
    }

    /// An object takes over the attributes that follow it.
    fn build(&mut self) -> Result<(), Flaw> {
        let (state, depth) = self.pop()?;
        self.pop()?;
        match state {
            Value::Object(_) => self.push_deep(state, depth),
            _ => self.push(Value::Other),
        }
    }

    fn keep(&mut self, at: u32) -> Result<(), Flaw> {
        let top = self.stack.last().cloned().ok_or_else(|| damaged("a missing value"))?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn get(&mut self, at: u32) -> Result<(), Flaw> {
        let (value, depth) =
            self.memo.get(&at).cloned().ok_or_else(|| damaged("a value that is not there"))?;
        self.push_deep(value, depth)
    }
}

fn deepest(items: &[Deep]) -> usize {
    items.iter().map(|(_, depth)| *depth).max().unwrap_or(0)
}

/// (storage, offset, size, stride, …)
fn tensor(arguments: &[Value]) -> Option<Tensor> {
    let [Value::Storage(storage), Value::Int(offset), Value::Tuple(size), Value::Tuple(stride), ..] =
        arguments
    else {
        return None;
    };
    let counts = |values: &[Value]| -> Option<Vec<usize>> {
        let count = |value: &Value| match value {
            Value::Int(count) => usize::try_from(*count).ok(),
            _ => None,
        };
        values.iter().map(count).collect()
    };
    let (shape, stride) = (counts(size)?, counts(stride)?);
    let offset = usize::try_from(*offset).ok()?;
    let (storage, dtype) = (storage.name.clone(), storage.dtype);
    (shape.len() == stride.len()).then_some(Tensor { storage, dtype, offset, shape, stride })
}

fn dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "torch.DoubleStorage" => Dtype::F64,
        "torch.FloatStorage" => Dtype::F32,
        "torch.HalfStorage" => Dtype::F16,
        "torch.BFloat16Storage" => Dtype::BF16,
        "torch.LongStorage" => Dtype::I64,
        "torch.IntStorage" => Dtype::I32,
        "torch.ShortStorage" => Dtype::I16,
        "torch.CharStorage" => Dtype::I8,
        "torch.ByteStorage" => Dtype::U8,
        "torch.BoolStorage" => Dtype::BOOL,
        _ => return None,
    })
}

fn damaged(reason: &str) -> Flaw {
    Flaw::new(format!("holds a module that cannot be read as data: {reason}"))
}
