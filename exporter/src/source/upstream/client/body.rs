//! The bytes of a page as they come: bounded, and unpacked if they are gzip.

use std::{
    io::{self, Write},
    mem,
};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use super::error::{FetchError, Phase};

/// Makes what comes over the wire into the bytes of a page.
pub(super) enum Unpacker {
    Plain(Budget),
    Gzip(Box<MultiGzDecoder<Unpacked>>),
}

/// How large a page may still become.
pub(super) struct Budget {
    n_bytes: usize,
    limit: usize,
    is_exceeded: bool,
}

/// What was unpacked and not yet taken.
pub(super) struct Unpacked {
    bytes: Vec<u8>,
    budget: Budget,
}

impl Unpacker {
    /// One for a page; `encoding` is the header `Content-Encoding`.
    pub(super) fn new(encoding: &str, limit: usize) -> Result<Self, FetchError> {
        let budget = Budget { n_bytes: 0, limit, is_exceeded: false };
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Plain(budget)),
            "gzip" | "x-gzip" => {
                let unpacked = Unpacked { bytes: Vec::new(), budget };
                Ok(Self::Gzip(Box::new(MultiGzDecoder::new(unpacked))))
            }
            other => Err(FetchError::Encoding { encoding: other.chars().take(32).collect() }),
        }
    }

    /// What the next bytes of the wire are of the page; may be nothing yet.
    pub(super) fn unpack(&mut self, chunk: Bytes) -> Result<Bytes, FetchError> {
        let unpacked = match self {
            Self::Plain(budget) => budget.spend(chunk.len()).map(|()| chunk),
            Self::Gzip(decoder) => decoder.write_all(&chunk).map(|()| decoder.get_mut().take()),
        };
        unpacked.map_err(|source| self.error(source))
    }

    /// What is left of the page when all has come.
    pub(super) fn finish(&mut self) -> Result<Bytes, FetchError> {
        let rest = match self {
            Self::Plain(_) => Ok(Bytes::new()),
            Self::Gzip(decoder) => decoder.try_finish().map(|()| decoder.get_mut().take()),
        };
        rest.map_err(|source| self.error(source))
    }

    /// The size of the page so far.
    pub(super) fn n_bytes(&self) -> usize {
        self.budget().n_bytes
    }

    /// How far the page has come.
    pub(super) fn phase(&self) -> Phase {
        Phase::Body { n_bytes: self.n_bytes() }
    }

    fn budget(&self) -> &Budget {
        match self {
            Self::Plain(budget) => budget,
            Self::Gzip(decoder) => &decoder.get_ref().budget,
        }
    }

    fn error(&self, source: io::Error) -> FetchError {
        let budget = self.budget();
        if budget.is_exceeded {
            FetchError::TooLarge { limit: budget.limit }
        } else {
            FetchError::Gzip(source)
        }
    }
}

impl Budget {
    fn spend(&mut self, n_bytes: usize) -> io::Result<()> {
        if n_bytes > self.limit.saturating_sub(self.n_bytes) {
            self.is_exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.n_bytes += n_bytes;
        Ok(())
    }
}

impl Unpacked {
    fn take(&mut self) -> Bytes {
        mem::take(&mut self.bytes).into()
    }
}

impl Write for Unpacked {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        self.budget.spend(chunk.len())?;
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

    use bytes::Bytes;

    use super::{FetchError, Unpacker};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn check(encoding: &str, chunks: &[&[u8]], expected: Result<&str, &str>) {
        let collect = || {
            let mut unpacker = Unpacker::new(encoding, 10)?;
            let mut page = Vec::new();
            for chunk in chunks {
                page.extend(unpacker.unpack(Bytes::copy_from_slice(chunk))?);
            }
            page.extend(unpacker.finish()?);
            assert_eq!(unpacker.n_bytes(), page.len());
            Ok(page)
        };
        let outcome = collect().map(|page: Vec<u8>| String::from_utf8(page).unwrap());
        let outcome = outcome.map_err(|error: FetchError| error.to_string());
        assert_eq!(outcome.as_deref().map_err(String::as_str), expected, "{encoding} {chunks:?}");
    }

    #[test]
    fn unpacks_within_its_limit() {
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
