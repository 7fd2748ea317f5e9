//! Looks through a pickle without building anything: how much it would build, and what is at its top.
//!
//! A pickle is a program for a stack machine. Reading it as data costs memory for every opcode, so the
//! opcodes are counted first; this walks over them and their arguments, and keeps only a few.

use super::Flaw;
use std::io::{BufRead, Read};

/// What a pickle is, at a glance.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Glance {
    /// The opcodes in it: no fewer than the objects.
    pub(super) objects: u64,
    /// The class of the object at the top, where that is no dict, list or number.
    pub(super) class: Option<String>,
}

/// The bytes that follow an opcode.
enum Argument {
    None,
    Bytes(u64),
    /// Text up to a line's end, so many times.
    Lines(u8),
    /// A length of so many bytes, then as many bytes.
    Counted(usize),
}

/// Opcodes that are remembered, to tell what is at the top.
const FIRST: usize = 8;
const PROTO: u8 = 0x80;
const FRAME: u8 = 0x95;
pub(super) const MEMOIZE: u8 = 0x94;
pub(super) const STACK_GLOBAL: u8 = 0x93;
pub(super) const STOP: u8 = b'.';
/// Text that is kept of an argument; names of classes are shorter.
const LONGEST_TEXT: u64 = 256;

/// Reads one pickle to its end, where `reader` is left.
pub(super) fn glance(reader: &mut impl BufRead, most: u64) -> Result<Glance, Flaw> {
    let mut first: Vec<(u8, Vec<String>)> = Vec::new();
    let mut objects = 0;
    loop {
        let code = byte(reader)?;
        objects += 1;
        if objects > most {
            return Err(Flaw::new(format!(
                "asks for too much: a pickle builds more than {most} things; raise `limits.objects` if \
                 that is right"
            )));
        }
        let argument = argument(code).ok_or_else(|| no_pickle(&format!("opcode {code:#04x}")))?;
        let is_frame = matches!(code, PROTO | FRAME | MEMOIZE | b'q' | b'r');
        match first.len() < FIRST && !is_frame {
            true => first.push((code, texts(reader, &argument)?)),
            false => skip(reader, &argument)?,
        }
        if code == STOP {
            return Ok(Glance { objects, class: class(&first) });
        }
    }
}

/// Reads one opcode, and the whole of what follows it.
pub(super) fn opcode(reader: &mut impl BufRead) -> Result<(u8, Vec<u8>), Flaw> {
    let code = byte(reader)?;
    let mut bytes = Vec::new();
    let count = match argument(code).ok_or_else(|| no_pickle(&format!("opcode {code:#04x}")))? {
        Argument::None => 0,
        Argument::Bytes(count) => count,
        Argument::Counted(width) => length(reader, width)?,
        Argument::Lines(count) => {
            for _ in 0..count {
                reader.read_until(b'\n', &mut bytes)?;
            }
            return Ok((code, bytes));
        }
    };
    // Not as much as it says at once, which may be a lie.
    match reader.take(count).read_to_end(&mut bytes)? as u64 == count {
        true => Ok((code, bytes)),
        false => Err(cut_short(std::io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The class whose object a pickle builds first, and therefore at its top.
fn class(first: &[(u8, Vec<String>)]) -> Option<String> {
    let text = |at: usize| first.get(at).and_then(|(_, texts)| texts.first());
    let joined = match first {
        [(b'c', names), ..] => names.join("."),
        // Protocol 4: two strings, then the class of that name.
        [_, _, (STACK_GLOBAL, _), ..] => format!("{}.{}", text(0)?, text(1)?),
        // The legacy form of a module: ('module', class, file, source).
        [(b'(', _), _, (b'c', names), ..] if text(1)? == "module" => names.join("."),
        _ => return None,
    };
    Some(joined)
}

/// What follows an opcode; nothing for bytes that are none.
fn argument(code: u8) -> Option<Argument> {
    Some(match code {
        b'(' | b'.' | b'0' | b'1' | b'2' | b'N' | b'R' | b'b' | b'd' | b'l' | b't' | b's'
        | b'a' | b')' | b']' | b'}' | b'e' | b'u' | b'Q' => Argument::None,
        0x81 | 0x85..=0x89 | 0x8f..=0x94 | 0x97 | 0x98 => Argument::None,
        b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'P' => Argument::Lines(1),
        b'c' => Argument::Lines(2),
        b'K' | b'h' | b'q' | PROTO | 0x82 => Argument::Bytes(1),
        b'M' | 0x83 => Argument::Bytes(2),
        b'J' | b'j' | b'r' | 0x84 => Argument::Bytes(4),
        b'G' | FRAME => Argument::Bytes(8),
        b'U' | b'C' | 0x8a | 0x8c => Argument::Counted(1),
        b'T' | b'X' | b'B' | 0x8b => Argument::Counted(4),
        0x8d | 0x8e | 0x96 => Argument::Counted(8),
        _ => return None,
    })
}

fn skip(reader: &mut impl BufRead, argument: &Argument) -> Result<(), Flaw> {
    match *argument {
        Argument::None => Ok(()),
        Argument::Bytes(count) => skip_bytes(reader, count),
        Argument::Counted(width) => {
            let count = length(reader, width)?;
            skip_bytes(reader, count)
        }
        Argument::Lines(count) => (0..count).try_for_each(|_| skip_line(reader)),
    }
}

/// As [`skip`], with what is text.
fn texts(reader: &mut impl BufRead, argument: &Argument) -> Result<Vec<String>, Flaw> {
    match *argument {
        Argument::Lines(count) => (0..count).map(|_| line(reader)).collect(),
        Argument::Counted(width) => {
            let count = length(reader, width)?;
            let kept = count.min(LONGEST_TEXT);
            let mut bytes = vec![0; kept as usize];
            reader.read_exact(&mut bytes).map_err(cut_short)?;
            skip_bytes(reader, count - kept)?;
            Ok(vec![String::from_utf8_lossy(&bytes).into_owned()])
        }
        _ => skip(reader, argument).map(|()| Vec::new()),
    }
}

fn byte(reader: &mut impl BufRead) -> Result<u8, Flaw> {
    let mut byte = [0];
    reader.read_exact(&mut byte).map_err(cut_short)?;
    Ok(byte[0])
}

fn length(reader: &mut impl BufRead, width: usize) -> Result<u64, Flaw> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes[..width]).map_err(cut_short)?;
    Ok(u64::from_le_bytes(bytes))
}

fn skip_bytes(reader: &mut impl BufRead, count: u64) -> Result<(), Flaw> {
    let skipped = std::io::copy(&mut reader.take(count), &mut std::io::sink())?;
    if skipped == count { Ok(()) } else { Err(cut_short(std::io::ErrorKind::UnexpectedEof.into())) }
}

fn skip_line(reader: &mut impl BufRead) -> Result<(), Flaw> {
    loop {
        let seen = reader.fill_buf()?;
        if seen.is_empty() {
            return Err(cut_short(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let end = seen.iter().position(|&byte| byte == b'\n');
        let count = end.map_or(seen.len(), |at| at + 1);
        reader.consume(count);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn line(reader: &mut impl BufRead) -> Result<String, Flaw> {
    let mut bytes = Vec::new();
    reader.take(LONGEST_TEXT).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(no_pickle("a line without an end"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cut_short(error: std::io::Error) -> Flaw {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Flaw::new("ends within a pickle: truncated or still being written")
        }
        _ => Flaw::Read(error),
    }
}

fn no_pickle(reason: &str) -> Flaw {
    Flaw::new(format!("holds no pickle that can be read: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Result<Glance, Flaw> {
        glance(&mut &bytes[..], 100)
    }

    #[test]
    fn the_class_at_the_top_is_named() {
        let class = |bytes: &[u8]| of(bytes).expect("a pickle").class;
        assert_eq!(class(b"\x80\x02}q\x00."), None);
        assert_eq!(
            class(b"\x80\x02ccollections\nOrderedDict\nq\x00)R.").as_deref(),
            Some("collections.OrderedDict")
        );
        assert_eq!(class(b"\x80\x02c__main__\nNet\nq\x00)\x81.").as_deref(), Some("__main__.Net"));
        let fourth = b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.";
        assert_eq!(class(fourth).as_deref(), Some("posix.system"));
        let legacy = b"\x80\x02(X\x06\0\0\0moduleq\x00c__main__\nNet\nq\x01tQ.";
        assert_eq!(class(legacy).as_deref(), Some("__main__.Net"));
    }

    #[test]
    fn every_truncation_is_refused_and_so_are_lengths_that_lie() {
        let bytes = b"\x80\x02}q\x00X\x01\0\0\0ac__main__\nNet\n)\x81K\x01us.";
        assert_eq!(of(bytes).expect("a pickle").objects, 11);
        for length in 0..bytes.len() {
            assert!(of(&bytes[..length]).is_err(), "{length} bytes");
        }
        for lie in [&b"X\xff\xff\xff\xffabc."[..], b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc."] {
            assert!(of(lie).is_err());
        }
        assert!(of(b"\xfe.").is_err());
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let bytes = [vec![b'N'; 200], vec![b'.']].concat();
        let message = of(&bytes).expect_err("too many").to_string();
        assert!(message.contains("`limits.objects`"), "{message}");
    }
}
