//! The lines of targets: copied where the format allows, and given other timestamps where it does not.

use memchr::memrchr;

use super::{Format, pieces::Pieces};
use crate::page::{
    Page,
    merge::Part,
    relayed::{Form, Line, RelayedPage},
    spelling::write_seconds,
};

/// Writes a family's lines of one target.
pub(super) fn write_part(pieces: &mut Pieces, page: &Page, part: &Part, format: Format) {
    let Some(relayed) = page.relayed().get(part.page) else {
        return;
    };
    let lines = relayed.lines.get(part.lines.clone()).unwrap_or_default();
    let mut successive = Successive { relayed, start: 0, end: 0 };
    for line in lines {
        match (format, line.form) {
            (_, Form::Same)
            | (Format::Text004, Form::Timestamped | Form::TextOnly)
            | (Format::OpenMetrics100, Form::OpenMetricsOnly) => successive.push(pieces, *line),
            (Format::OpenMetrics100, Form::Timestamped) => {
                successive.flush(pieces);
                write_with_seconds(&mut pieces.out, relayed.line(*line));
            }
            (Format::Text004, Form::OpenMetricsOnly) | (Format::OpenMetrics100, Form::TextOnly) => {
            }
        }
    }
    successive.flush(pieces);
}

/// Lines that stand one behind the other, so that they are copied at once.
struct Successive<'a> {
    relayed: &'a RelayedPage,
    start: usize,
    end: usize,
}

impl Successive<'_> {
    fn push(&mut self, pieces: &mut Pieces, line: Line) {
        let start = line.start as usize;
        if start != self.end {
            self.flush(pieces);
            self.start = start;
        }
        self.end = start.saturating_add(line.n_bytes as usize);
    }

    fn flush(&mut self, pieces: &mut Pieces) {
        if let Some(part) = self.relayed.bytes.get(self.start..self.end) {
            pieces.append(&self.relayed.bytes, part);
        }
        self.start = self.end;
    }
}

/// Writes a line whose last word is a timestamp in milliseconds.
fn write_with_seconds(out: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let split = memrchr(b' ', line).and_then(|at| line.split_at_checked(at.saturating_add(1)));
    if let Some((sample, milliseconds)) = split {
        out.extend_from_slice(sample);
        write_seconds(out, milliseconds);
    } else {
        out.extend_from_slice(line);
    }
    out.push(b'\n');
}
