//! A file of the buffer of remote write, as a killed process or a bad disk has left it.

use podmeter::remote_write::buffer::fuzzing::{Found, read, write};

/// The length of what stands before each body.
const HEADER_BYTES: usize = 28;

pub(crate) fn check(input: &[u8]) {
    check_file(input);
    check_damage(input);
}

/// What is found stands in the file; what is kept is read again as it was, and each record of it is good or torn.
fn check_file(file: &[u8]) {
    let Found { waiting, n_torn, end } = read(file);
    assert!(end <= file.len());
    assert!(waiting.is_sorted_by(|(one, _), (next, _)| one < next));
    for (at, body) in &waiting {
        let from = at + HEADER_BYTES;
        assert_eq!(file.get(from..from + body.len()), Some(body.as_slice()));
        assert!(from + body.len() <= end);
    }
    let kept = file.get(..end).expect("it is no longer");
    let again = read(kept);
    assert_eq!((&again.waiting, again.end), (&waiting, end));
    // What was cut off is one record at most, or a file that is none.
    assert!(n_torn - again.n_torn <= 1, "{n_torn}, then {}", again.n_torn);
}

/// Bodies are written and read again; with one byte that is another, or a part cut off, what is found was written.
fn check_damage(input: &[u8]) {
    let Some((&[high, low, change], text)) = input.split_first_chunk::<3>() else { return };
    let bodies: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let whole = write(&bodies);
    let found = read(&whole);
    assert_eq!((found.n_torn, found.end), (0, whole.len()));
    assert!(found.waiting.iter().map(|(_, body)| body.as_slice()).eq(bodies.iter().copied()));

    let at = usize::from(u16::from_be_bytes([high, low])) % whole.len();
    let mut damaged = whole.clone();
    if change == 0 {
        damaged.truncate(at);
    } else if let Some(byte) = damaged.get_mut(at) {
        *byte ^= change;
    }
    let mut written = found.waiting.iter();
    for left in &read(&damaged).waiting {
        assert!(written.any(|one| one == left), "{} was not written so", left.0);
    }
}
