//! Changes to valid files, as damage and carelessness make them.

use proptest::prelude::*;

/// Numbers at the ends of types, and some that are none.
const EXTREMES: [&str; 22] = [
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e308",
    "-1e308",
    "1e-320",
    "1e30",
    "nan",
    "inf",
    "-inf",
    "null",
    "",
];

/// Pieces that mean something to one parser or another.
const PIECES: [&str; 16] = [
    "\"",
    "'",
    "[",
    "]]",
    "{",
    "}",
    ",",
    "=",
    "\n",
    "\0",
    "\u{feff}",
    "#",
    "\\u",
    "[[[[[[[[[[[[[[[[",
    "layers.0",
    "\"\"\"",
];

/// One change; places are shares of the length, counted in 2^-16.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Flip { at: u16, bit: u8 },
    Set { at: u16, byte: u8 },
    Cut { at: u16 },
    Remove { at: u16, length: u8 },
    Insert { at: u16, bytes: Vec<u8> },
    Piece { at: u16, which: usize },
    Splice { from: u16, to: u16, length: u8 },
    Repeat { at: u16, length: u8, times: u8 },
    Word { at: u16, value: u64, wide: bool, big: bool },
    Number { which: u16, value: usize },
    DropLine { which: u16 },
    DoubleLine { which: u16, to: u16 },
    DropField { which: u16, separator: u8 },
    DoubleField { which: u16, separator: u8 },
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let separator = || prop_oneof![Just(b','), Just(b'='), Just(b' '), Just(b':')];
    prop_oneof![
        2 => (any::<u16>(), 0..8u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Change::Set { at, byte }),
        1 => any::<u16>().prop_map(|at| Change::Cut { at }),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Remove { at, length }),
        1 => (any::<u16>(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Change::Insert { at, bytes }),
        2 => (any::<u16>(), 0..PIECES.len()).prop_map(|(at, which)| Change::Piece { at, which }),
        1 => (any::<u16>(), any::<u16>(), any::<u8>()).prop_map(|(from, to, length)| Change::Splice { from, to, length }),
        1 => (any::<u16>(), 1..64u8, 1..64u8).prop_map(|(at, length, times)| Change::Repeat { at, length, times }),
        2 => (any::<u16>(), word(), any::<bool>(), any::<bool>())
            .prop_map(|(at, value, wide, big)| Change::Word { at, value, wide, big }),
        6 => (any::<u16>(), 0..EXTREMES.len()).prop_map(|(which, value)| Change::Number { which, value }),
        2 => any::<u16>().prop_map(|which| Change::DropLine { which }),
        2 => (any::<u16>(), any::<u16>()).prop_map(|(which, to)| Change::DoubleLine { which, to }),
        2 => (any::<u16>(), separator()).prop_map(|(which, separator)| Change::DropField { which, separator }),
        2 => (any::<u16>(), separator()).prop_map(|(which, separator)| Change::DoubleField { which, separator }),
    ]
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(1 << 31),
        Just(1 << 32),
        Just(u64::from(u32::MAX)),
        Just(1 << 63),
        Just(1 << 24),
        0..1000u64,
    ]
}

/// One, or up to four of them.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop_oneof![2 => prop::collection::vec(change(), 1), 1 => prop::collection::vec(change(), 2..5)]
}

/// The bytes with all changes made, one after the other.
pub(crate) fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    changes.iter().fold(bytes.to_vec(), |bytes, change| change.of(bytes))
}

/// A text with all changes made; what is no text any more is made one.
pub(crate) fn changed_text(text: &str, changes: &[Change]) -> String {
    String::from_utf8_lossy(&changed(text.as_bytes(), changes)).into_owned()
}

fn place(share: u16, length: usize) -> usize {
    (length * usize::from(share)) >> 16
}

/// First and last of the pieces that a predicate holds for, one after the other.
fn runs(bytes: &[u8], holds: impl Fn(u8) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| holds(**byte)) {
        match found.last_mut() {
            Some(last) if last.end == at => last.end += 1,
            _ => found.push(at..at + 1),
        }
    }
    found
}

impl Change {
    fn of(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len();
        let up_to = |at: usize, count: u8| at..(at + usize::from(count)).min(length);
        match *self {
            _ if length == 0 => {}
            Change::Flip { at, bit } => bytes[place(at, length)] ^= 1 << bit,
            Change::Set { at, byte } => bytes[place(at, length)] = byte,
            Change::Cut { at } => bytes.truncate(place(at, length)),
            Change::Remove { at, length: count } => drop(bytes.drain(up_to(place(at, length), count))),
            Change::Insert { at, bytes: ref more } => insert(&mut bytes, place(at, length), more),
            Change::Piece { at, which } => insert(&mut bytes, place(at, length), PIECES[which].as_bytes()),
            Change::Splice { from, to, length: count } => {
                let piece = bytes[up_to(place(from, length), count)].to_vec();
                insert(&mut bytes, place(to, length), &piece);
            }
            Change::Repeat { at, length: count, times } => {
                let piece = bytes[up_to(place(at, length), count)].repeat(times.into());
                insert(&mut bytes, place(at, length), &piece);
            }
            Change::Word { at, value, wide, big } => {
                let word = match (wide, big) {
                    (true, true) => value.to_be_bytes().to_vec(),
                    (true, false) => value.to_le_bytes().to_vec(),
                    (false, true) => (value as u32).to_be_bytes().to_vec(),
                    (false, false) => (value as u32).to_le_bytes().to_vec(),
                };
                // Headers hold words at multiples of four.
                let at = place(at, length) / 4 * 4;
                for (place, byte) in bytes[at..].iter_mut().zip(word) {
                    *place = byte;
                }
            }
            Change::Number { which, value } => {
                let numbers = runs(&bytes, |byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
                if let Some(number) = numbers.get(place(which, numbers.len())) {
                    bytes.splice(number.clone(), EXTREMES[value].bytes());
                }
            }
            Change::DropLine { which } => drop_piece(&mut bytes, which, b'\n'),
            Change::DoubleLine { which, to } => {
                let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
                let line = lines[place(which, lines.len())];
                lines.insert(place(to, lines.len()), line);
                bytes = lines.concat();
            }
            Change::DropField { which, separator } => drop_piece(&mut bytes, which, separator),
            Change::DoubleField { which, separator } => {
                let mut fields: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == separator).collect();
                let at = place(which, fields.len());
                fields.insert(at, fields[at]);
                bytes = fields.concat();
            }
        }
        bytes
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}

fn drop_piece(bytes: &mut Vec<u8>, which: u16, separator: u8) {
    let mut pieces: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == separator).collect();
    pieces.remove(place(which, pieces.len()));
    *bytes = pieces.concat();
}
