//! The frames of an event file: length, its checksum, the event, its checksum; all little-endian.

use super::event::Event;
use prost::Message;

/// Bytes before an event: its length as u64, and the checksum of that.
const HEAD: usize = 12;
/// Bytes behind it: its checksum.
const TAIL: usize = 4;
/// What checksums are moved by, so that a checksum over data with checksums is no special one.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Appends one event to the bytes of a file.
pub(super) fn put(event: &Event, bytes: &mut Vec<u8>) {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked_checksum(&length).to_le_bytes());
    bytes.extend(&data);
    bytes.extend(masked_checksum(&data).to_le_bytes());
}

/// The events in the bytes of a file, up to the first that is cut off or damaged.
pub(super) fn events(mut bytes: &[u8]) -> impl Iterator<Item = Event> {
    std::iter::from_fn(move || {
        let (event, rest) = first(bytes)?;
        bytes = rest;
        Some(event)
    })
}

fn first(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length: [u8; 8] = head[..8].try_into().ok()?;
    let is_whole = head[8..] == masked_checksum(&length).to_le_bytes();
    let length = usize::try_from(u64::from_le_bytes(length)).ok().filter(|_| is_whole)?;
    let (data, rest) = rest.split_at_checked(length)?;
    let (checksum, rest) = rest.split_at_checked(TAIL)?;
    let is_whole = checksum == masked_checksum(data).to_le_bytes();
    let event = Event::decode(data).ok().filter(|_| is_whole)?;
    Some((event, rest))
}

/// CRC-32C, turned and moved.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::super::event::Value;
    use super::*;

    fn event(step: u64) -> Event {
        Event::of(step, 1.5, vec![Value::number("loss", 0.25), Value::text("said", "so".into())])
    }

    #[test]
    fn what_is_cut_off_or_damaged_ends_a_file_and_nothing_before_it_is_lost() {
        let mut bytes = Vec::new();
        for step in 1..=3 {
            put(&event(step), &mut bytes);
        }
        let one = bytes.len() / 3;
        assert_eq!(events(&bytes).collect::<Vec<_>>(), [1, 2, 3].map(event));
        for end in 2 * one..3 * one {
            assert_eq!(events(&bytes[..end]).count(), 2, "{end}");
        }
        for at in one..2 * one {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(events(&damaged).count(), 1, "{at}");
        }
    }

    /// The checksum of "123456789" is 0xe3069283 in every catalogue of CRC-32C.
    #[test]
    fn checksums_are_those_of_the_format() {
        let turned = 0xe306_9283_u32.rotate_right(15);
        assert_eq!(masked_checksum(b"123456789"), turned.wrapping_add(0xa282_ead8));
    }
}
