//! The bytes of a page as they come: bounded, and unpacked if they are gzip.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use super::error::{FetchError, Phase};

/// Collects a page.
pub(super) enum Collector {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

/// A buffer with an end.
pub(super) struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl Collector {
    /// A collector into an empty buffer; `encoding` is the header `Content-Encoding`.
    pub(super) fn new(
        encoding: &str,
        mut bytes: Vec<u8>,
        limit: usize,
    ) -> Result<Self, FetchError> {
        bytes.clear();
        let bounded = Bounded { bytes, limit, is_full: false };
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Plain(bounded)),
            "gzip" | "x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(bounded)))),
            other => Err(FetchError::Encoding { encoding: other.chars().take(32).collect() }),
        }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        let outcome = match self {
            Self::Plain(bounded) => bounded.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
        };
        outcome.map_err(|source| self.error(source))
    }

    /// How far the page has come.
    pub(super) fn phase(&self) -> Phase {
        Phase::Body { n_bytes: self.bounded().bytes.len() }
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, FetchError> {
        if let Self::Gzip(decoder) = &mut self
            && let Err(source) = decoder.try_finish()
        {
            return Err(self.error(source));
        }
        Ok(match self {
            Self::Plain(bounded) => bounded.bytes,
            Self::Gzip(mut decoder) => std::mem::take(&mut decoder.get_mut().bytes),
        })
    }

    fn bounded(&self) -> &Bounded {
        match self {
            Self::Plain(bounded) => bounded,
            Self::Gzip(decoder) => decoder.get_ref(),
        }
    }

    fn error(&self, source: io::Error) -> FetchError {
        let bounded = self.bounded();
        if bounded.is_full {
            FetchError::TooLarge { limit: bounded.limit }
        } else {
            FetchError::Gzip(source)
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if chunk.len() > self.limit.saturating_sub(self.bytes.len()) {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::Collector;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn check(encoding: &str, chunks: &[&[u8]], expected: Result<&str, &str>) {
        let collect = || {
            let mut collector = Collector::new(encoding, vec![1], 10)?;
            for chunk in chunks {
                collector.push(chunk)?;
            }
            collector.finish()
        };
        let outcome = collect().map(|bytes| String::from_utf8(bytes).unwrap());
        let outcome = outcome.map_err(|error| error.to_string());
        assert_eq!(outcome.as_deref().map_err(String::as_str), expected, "{encoding} {chunks:?}");
    }

    #[test]
    fn collects_within_its_limit() {
        const TOO_LARGE: &str =
            "the page has more than 10 bytes: raise body_size_limit, or scrape less";
        let packed = gzip(b"a 1\nb 2\n");
        let (head, tail) = packed.split_at(7);
        check("", &[], Ok(""));
        check("identity", &[b"a 1\n", b"b 2\n"], Ok("a 1\nb 2\n"));
        check("", &[b"0123456789"], Ok("0123456789"));
        check("", &[b"0123456789", b"x"], Err(TOO_LARGE));
        check("GZIP", &[head, tail], Ok("a 1\nb 2\n"));
        check("gzip", &[&packed, &gzip(b"c")], Ok("a 1\nb 2\nc"));
        check("gzip", &[&gzip(&vec![b'x'; 1 << 20])], Err(TOO_LARGE));
        check("gzip", &[head], Err("the page is no valid gzip"));
        check("gzip", &[b"not gzip at all"], Err("the page is no valid gzip"));
        check("br", &[], Err("the page has the Content-Encoding br, which was not asked for"));
    }
}
