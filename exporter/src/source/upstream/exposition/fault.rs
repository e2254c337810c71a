//! What is wrong with a line, and where.

use super::series::MAX_LABELS;

/// A line that is none of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct LineError {
    /// The line, from 1.
    pub line: usize,
    /// The byte in the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line that begins like a sample, and not with a name.
    #[error("a metric name was expected")]
    MetricName,
    /// Something else where a label's name has to be.
    #[error("a label name was expected")]
    LabelName,
    /// No `=` behind a label's name.
    #[error("`=` was expected after a label name")]
    Equals,
    /// No `"` before a label's value.
    #[error("a quoted label value was expected")]
    OpeningQuote,
    /// A label's value, or a quoted name, does not end.
    #[error("a quoted text does not end")]
    ClosingQuote,
    /// Something between two labels.
    #[error("`,` or `}}` was expected after a label")]
    Separator,
    /// The labels do not end.
    #[error("the labels do not end")]
    ClosingBrace,
    /// One label twice, or the name given as a label too.
    #[error("a label name stands here for the second time")]
    DuplicateLabel,
    /// More labels than anybody has.
    #[error("a series has no more than {MAX_LABELS} labels")]
    TooManyLabels,
    /// Not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// No value, or one that is no number.
    #[error("a value was expected, a decimal number, NaN or Inf")]
    Value,
    /// A timestamp that is none.
    #[error("a timestamp was expected")]
    Timestamp,
    /// An exemplar that is none.
    #[error("an exemplar was expected, labels and a value")]
    Exemplar,
    /// Something after the sample.
    #[error("the sample should end here")]
    Trailing,
    /// `# TYPE` with a type that does not exist.
    #[error("a type was expected: counter, gauge, histogram, summary or untyped")]
    Type,
    /// A line behind `# EOF`.
    #[error("there is more after `# EOF`")]
    AfterEof,
}

/// A fault and how much of the text was left where it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misread {
    pub(super) fault: Fault,
    /// Bytes from the fault to the end; once within a line, bytes from the start of the line to the fault.
    position: usize,
}

impl Misread {
    /// A fault before these bytes, which are the end of the line.
    pub(super) fn before(rest: &[u8], fault: Fault) -> Self {
        Self { fault, position: rest.len() }
    }

    /// A fault at the beginning of a line.
    pub(super) fn at_start(fault: Fault) -> Self {
        Self { fault, position: 0 }
    }

    /// The fault counted from the line's beginning.
    pub(super) fn within(self, line: &[u8]) -> Self {
        Self { position: line.len().saturating_sub(self.position), ..self }
    }

    /// The column, from 1, of a fault that is counted from the line's beginning.
    pub(super) fn column(self) -> usize {
        self.position.saturating_add(1)
    }
}
