//! Protobuf's encoding: <https://protobuf.dev/programming-guides/encoding/>. Pure.

/// How a field's value is written.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
}

/// Writes a number of varying length.
pub(super) fn varint(out: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_bits(rest));
}

/// The number of bytes that [`varint`] writes.
pub(super) fn varint_len(number: u64) -> usize {
    let n_bits = 64 - (number | 1).leading_zeros();
    n_bits.div_ceil(7) as usize
}

/// Writes a field with a number.
pub(super) fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    tag(out, field, WireType::Varint);
    varint(out, value);
}

/// Writes a field with a signed number, as `int64` has it.
pub(super) fn signed(out: &mut Vec<u8>, field: u64, value: i64) {
    number(out, field, u64::from_ne_bytes(value.to_ne_bytes()));
}

/// Writes a field with a double, bit by bit, so that a stale marker stays one.
pub(super) fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    tag(out, field, WireType::Fixed64);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Writes a field with a text, or with a message that is written already.
pub(super) fn bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    length(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Begins a field of so many bytes.
pub(super) fn length(out: &mut Vec<u8>, field: u64, n_bytes: usize) {
    tag(out, field, WireType::Length);
    varint(out, n_bytes as u64);
}

/// The number of bytes that [`bytes`] writes, for a field below 16.
pub(super) fn bytes_len(n_bytes: usize) -> usize {
    1 + varint_len(n_bytes as u64) + n_bytes
}

fn tag(out: &mut Vec<u8>, field: u64, wire_type: WireType) {
    varint(out, (field << 3) | wire_type as u64);
}

fn low_bits(number: u64) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low & 0x7f
}

#[cfg(test)]
mod tests {
    use super::{bytes, bytes_len, double, number, signed, varint, varint_len};

    #[test]
    fn numbers_are_as_the_documentation_has_them() {
        for (value, expected) in [
            (0, &[0][..]),
            (1, &[1]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (150, &[0x96, 1]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected);
            assert_eq!(varint_len(value), expected.len(), "{value}");
        }
    }

    #[test]
    fn fields_are_as_the_documentation_has_them() {
        let mut out = Vec::new();
        number(&mut out, 1, 150);
        assert_eq!(out, [0x08, 0x96, 0x01]);
        out.clear();
        bytes(&mut out, 2, b"testing");
        assert_eq!(out, b"\x12\x07testing");
        assert_eq!(bytes_len(7), out.len());
        out.clear();
        double(&mut out, 1, 1.0);
        assert_eq!(out, [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        out.clear();
        signed(&mut out, 2, -1);
        assert_eq!(out.len(), 11, "a negative number has ten bytes");
    }
}
