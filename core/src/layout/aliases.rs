//! Dicts and lists that stand in several places of a pickle.
//!
//! A pickle writes such a one once; in the next place it only says which one it was. `pytorch-reader` keeps
//! what each was when it got its number, and a dict gets it before it is filled, so in the next place that
//! reader finds an empty one. This goes over the opcodes with nothing but the shape of what they build, and
//! tells which places hold the same.

use super::pickle::{MEMOIZE, STACK_GLOBAL, STOP, opcode};
use super::{Flaw, Limits, flaw};
use std::collections::HashMap;
use std::io::BufRead;
use std::rc::Rc;

/// Dicts within dicts that are followed; `pytorch-reader` builds no more.
const DEEPEST: usize = 1000;

/// A place whose content stands in another as well. Both are the keys from the top, with dots.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) place: String,
    pub(super) of: String,
}

/// All that hold tensors, each behind those that its own content needs.
pub(super) fn aliases(reader: &mut impl BufRead, limits: &Limits) -> Result<Vec<Alias>, Flaw> {
    let mut machine = Machine::default();
    loop {
        let (code, argument) = opcode(reader)?;
        if code == STOP {
            break;
        }
        // What this does not understand, `pytorch-reader` refuses.
        if machine.step(code, &argument).is_none() {
            return Ok(Vec::new());
        }
    }
    let Some(Item::Node(top)) = machine.stack.pop() else { return Ok(Vec::new()) };
    let first = machine.nodes.iter().map(|_| None).collect();
    let mut places = Places { nodes: &machine.nodes, first, shared: Vec::new() };
    places.visit(top, None, 0);
    places.aliases(limits)
}

/// What is on the stack, as far as it matters.
#[derive(Clone, Debug)]
enum Item {
    Mark,
    Key(Rc<str>),
    /// The class of ordered dicts.
    OrderedDict,
    /// A function that gives a tensor.
    Rebuild,
    Tensor,
    /// A dict, list or tuple.
    Node(usize),
    Other,
}

/// A dict, list or tuple: what is in it of its kind, and whether tensors are.
#[derive(Debug, Default)]
struct Node {
    inner: Vec<(Rc<str>, usize)>,
    length: usize,
    has_tensors: bool,
}

#[derive(Debug, Default)]
struct Machine {
    stack: Vec<Item>,
    memo: HashMap<u32, Item>,
    nodes: Vec<Node>,
}

impl Machine {
    /// One opcode; nothing where it wants what is not there.
    fn step(&mut self, code: u8, argument: &[u8]) -> Option<()> {
        match code {
            0x80 | 0x95 | 0x98 => {}
            b'(' => self.stack.push(Item::Mark),
            b'0' => drop(self.stack.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.stack.last()?.clone()),
            b'}' | b']' | b')' | 0x8f => self.push_node(),
            b'd' | b'l' | b't' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push_node();
                if code == b'd' { self.set(items) } else { self.append(items) }?;
            }
            0x85..=0x87 => {
                let at = self.stack.len().checked_sub(usize::from(code - 0x84))?;
                let items = self.stack.split_off(at);
                self.push_node();
                self.append(items)?;
            }
            b's' => {
                let items = self.stack.split_off(self.stack.len().checked_sub(2)?);
                self.set(items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(items)?;
            }
            b'a' => {
                let item = self.stack.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b'p' | b'q' | b'r' | MEMOIZE => {
                let number = match code {
                    MEMOIZE => self.memo.len() as u32,
                    _ => index(code, argument)?,
                };
                self.memo.insert(number, self.stack.last()?.clone());
            }
            b'g' | b'h' | b'j' => {
                let item = self.memo.get(&index(code, argument)?)?.clone();
                self.stack.push(item);
            }
            b'c' => self.stack.push(class(&String::from_utf8_lossy(argument))),
            STACK_GLOBAL => {
                let [module, name] = self.pop()?;
                let (Item::Key(module), Item::Key(name)) = (module, name) else { return None };
                self.stack.push(class(&format!("{module}\n{name}\n")));
            }
            b'R' => {
                let [function, _] = self.pop()?;
                match function {
                    Item::OrderedDict => self.push_node(),
                    Item::Rebuild => self.stack.push(Item::Tensor),
                    _ => self.stack.push(Item::Other),
                }
            }
            // The state of a dict is no part of its content.
            b'b' => drop(self.stack.pop()?),
            b'Q' => *self.stack.last_mut()? = Item::Other,
            0x81 => {
                self.pop::<2>()?;
                self.stack.push(Item::Other);
            }
            0x92 => {
                self.pop::<3>()?;
                self.stack.push(Item::Other);
            }
            _ => self.stack.push(scalar(code, argument)),
        }
        Some(())
    }

    fn push_node(&mut self) {
        self.stack.push(Item::Node(self.nodes.len()));
        self.nodes.push(Node::default());
    }

    fn pop<const COUNT: usize>(&mut self) -> Option<[Item; COUNT]> {
        let at = self.stack.len().checked_sub(COUNT)?;
        self.stack.split_off(at).try_into().ok()
    }

    fn pop_to_mark(&mut self) -> Option<Vec<Item>> {
        let mark = self.stack.iter().rposition(|item| matches!(item, Item::Mark))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Some(items)
    }

    /// Puts keys and values into the dict on top; what is no dict here is an object of some class.
    fn set(&mut self, items: Vec<Item>) -> Option<()> {
        let Item::Node(node) = *self.stack.last()? else { return Some(()) };
        let node = self.nodes.get_mut(node)?;
        let (pairs, _) = items.as_chunks::<2>();
        for [key, value] in pairs {
            if let Item::Key(key) = key {
                node.put(key, value);
            }
        }
        Some(())
    }

    fn append(&mut self, items: Vec<Item>) -> Option<()> {
        let Item::Node(node) = *self.stack.last()? else { return Some(()) };
        let node = self.nodes.get_mut(node)?;
        for item in items {
            if matches!(item, Item::Node(_) | Item::Tensor) {
                node.put(&node.length.to_string().into(), &item);
            }
            node.length += 1;
        }
        Some(())
    }
}

impl Node {
    fn put(&mut self, key: &Rc<str>, value: &Item) {
        match value {
            Item::Node(inner) => self.inner.push((Rc::clone(key), *inner)),
            Item::Tensor => self.has_tensors = true,
            _ => {}
        }
    }
}

fn index(code: u8, argument: &[u8]) -> Option<u32> {
    match code {
        b'g' | b'p' => std::str::from_utf8(argument).ok()?.trim_end().parse().ok(),
        _ => Some(argument.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte))),
    }
}

/// Of a module and a name, each with its end of line.
fn class(names: &str) -> Item {
    match names.split_once('\n') {
        Some(("collections", "OrderedDict\n")) => Item::OrderedDict,
        Some((_, name)) if name.starts_with("_rebuild") => Item::Rebuild,
        _ => Item::Other,
    }
}

/// Text and whole numbers, which may be keys, and all else that stands alone.
fn scalar(code: u8, argument: &[u8]) -> Item {
    let key = match (code, argument) {
        (b'X' | b'T' | b'U' | 0x8c | 0x8d, text) => String::from_utf8_lossy(text).into_owned(),
        (b'V' | b'I', line) => String::from_utf8_lossy(line).trim_end().to_owned(),
        (b'K', &[number]) => number.to_string(),
        (b'M', &[low, high]) => u16::from_le_bytes([low, high]).to_string(),
        (b'J', &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).to_string(),
        _ => return Item::Other,
    };
    Item::Key(key.into())
}

/// Where a dict or list stands first.
#[derive(Debug)]
struct First<'a> {
    above: Option<(usize, &'a str)>,
    /// Bytes of its keys from the top.
    length: u64,
    has_tensors: bool,
    /// Whether what is in it is being looked at: it stands within itself.
    is_open: bool,
}

struct Places<'a> {
    nodes: &'a [Node],
    first: Vec<Option<First<'a>>>,
    /// Key within a node, and the node that stands there and elsewhere.
    shared: Vec<(usize, &'a str, usize)>,
}

impl<'a> Places<'a> {
    /// Goes through all that is in a node, in the order of the pickle; says whether tensors are.
    fn visit(&mut self, node: usize, above: Option<(usize, &'a str)>, depth: usize) -> bool {
        let length = above.map_or(0, |(above, key)| self.length(above, key));
        let Node { inner, has_tensors, .. } = &self.nodes[node];
        let mut has_tensors = *has_tensors;
        self.first[node] = Some(First { above, length, has_tensors, is_open: true });
        for (key, inner) in inner {
            match &self.first[*inner] {
                None if depth < DEEPEST => {
                    has_tensors |= self.visit(*inner, Some((node, key)), depth + 1);
                }
                Some(first) if !first.is_open && first.has_tensors => {
                    has_tensors = true;
                    self.shared.push((node, key, *inner));
                }
                _ => {}
            }
        }
        self.first[node] = Some(First { above, length, has_tensors, is_open: false });
        has_tensors
    }

    fn length(&self, above: usize, key: &str) -> u64 {
        let above = self.first[above].as_ref().map_or(0, |first| first.length);
        above.saturating_add(key.len() as u64 + 1)
    }

    fn aliases(&self, limits: &Limits) -> Result<Vec<Alias>, Flaw> {
        let lengths = self.shared.iter().map(|(node, key, inner)| {
            self.length(*node, key).saturating_add(self.length(*inner, ""))
        });
        let sum = lengths.fold(0, u64::saturating_add);
        flaw::within("the length of all names", sum, limits.header, "limits.header")?;
        let alias = |(node, key, inner): &(usize, &'a str, usize)| Alias {
            place: self.path(Some((*node, key))),
            of: self.path(self.first[*inner].as_ref().and_then(|first| first.above)),
        };
        Ok(self.shared.iter().map(alias).collect())
    }

    fn path(&self, mut place: Option<(usize, &'a str)>) -> String {
        let mut keys = Vec::new();
        while let Some((above, key)) = place {
            keys.push(key);
            place = self.first[above].as_ref().and_then(|first| first.above);
        }
        keys.reverse();
        keys.join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor, as far as this goes.
    const TENSOR: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n)R";

    fn found(pickle: &[&[u8]]) -> Vec<(String, String)> {
        let pickle = pickle.concat();
        let found = aliases(&mut &pickle[..], &Limits::default()).expect("a pickle");
        found.into_iter().map(|alias| (alias.place, alias.of)).collect()
    }

    fn pair(place: &str, of: &str) -> (String, String) {
        (place.to_owned(), of.to_owned())
    }

    #[test]
    fn the_places_of_one_dict_are_told_and_what_it_needs_stands_before_it() {
        // {'a': {'x': {'w': T}, 'y': the same}, 'b': all of `a`}
        let inner: &[u8] = b"(X\x01\0\0\0x}q\x02X\x01\0\0\0w";
        let pickle = [
            b"\x80\x02}q\x00(X\x01\0\0\0a}q\x01",
            inner,
            TENSOR,
            b"sX\x01\0\0\0yh\x02uX\x01\0\0\0bh\x01u.",
        ];
        assert_eq!(found(&pickle), [pair("a.y", "a.x"), pair("b", "a")]);
    }

    #[test]
    fn what_holds_no_tensor_or_itself_is_no_place() {
        let settings = b"\x80\x02}(X\x01\0\0\0a}q\x01X\x01\0\0\0bh\x01u.";
        assert_eq!(found(&[settings]), []);
        let itself: [&[u8]; 3] = [b"\x80\x02}q\x00(X\x01\0\0\0w", TENSOR, b"X\x01\0\0\0ah\x00u."];
        assert_eq!(found(&itself), []);
    }

    #[test]
    fn lists_count_their_items_and_the_state_of_a_dict_does_not_matter() {
        // {1: [None, OrderedDict(w=T) with a state], 'b': that dict}
        let pickle: [&[u8]; 3] = [
            b"\x80\x02}(K\x01](Nccollections\nOrderedDict\n)Rq\x07X\x01\0\0\0w",
            TENSOR,
            b"s}X\x01\0\0\0s}sbeX\x01\0\0\0bh\x07u.",
        ];
        assert_eq!(found(&pickle), [pair("b", "1.1")]);
    }

    #[test]
    fn odd_pickles_have_no_such_places_and_long_names_are_refused() {
        for odd in [&b"R."[..], b"u.", b"h\x05.", b".", b"]a.", b"0.", b"\x93.", b"}b."] {
            assert_eq!(found(&[odd]), [], "{odd:?}");
        }
        let key = [&b"X\x10\x27\0\0"[..], &[b'k'; 10_000]].concat();
        let again: Vec<u8> = (0..100u8).flat_map(|key| [b'K', key, b'h', 1]).collect();
        let pickle = [b"\x80\x02}(", &key[..], b"}q\x01X\x01\0\0\0w", TENSOR, b"s", &again, b"u."];
        let limits = Limits { header: 100_000, ..Limits::default() };
        let refused = aliases(&mut &pickle.concat()[..], &limits).expect_err("too long");
        assert!(refused.to_string().contains("the length of all names"), "{refused}");
    }

    /// Each holds the one before twice: as many places as there are, not as many as paths.
    #[test]
    fn dicts_within_dicts_double_nothing() {
        let mut pickle = [&b"\x80\x02}q\x00X\x01\0\0\0w"[..], TENSOR, b"s"].concat();
        for level in 1..60u8 {
            pickle.extend([b'}', b'q', level]);
            for key in [b'a', b'b'] {
                pickle.extend([b'X', 1, 0, 0, 0, key, b'h', level - 1, b's']);
            }
        }
        pickle.push(b'.');
        assert_eq!(found(&[&pickle]).len(), 59);
    }
}
