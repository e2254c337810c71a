//! Which format and which compression a client asks for, from `Accept` and `Accept-Encoding` (RFC 9110, section 12.5).
//!
//! No answer is ever refused: a client that rules everything out gets text 0.0.4, not compressed.

use super::Format;

/// How the body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with Zstandard (RFC 8878).
    Zstd,
}

impl Coding {
    /// The value of `Content-Encoding`, if there is one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// An `Accept` header in which nothing is a media range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("accept header {header:?} names no media type")]
pub struct UnreadableAccept {
    /// The first [`MAX_SHOWN_CHARS`] characters of the header.
    pub header: String,
}

/// How much of a header an error shows; it goes into a log line.
const MAX_SHOWN_CHARS: usize = 80;

/// Chooses the format; an empty header stands for an absent one.
///
/// A client that asks for a version of a format that Podmeter does not write is treated as if it had not named it.
/// On an error serve [`Format::Text004`].
pub fn format(header: &str) -> Result<Format, UnreadableAccept> {
    let parts = || header.split(',').map(str::trim).filter(|part| !part.is_empty());
    let ranges: Vec<MediaRange<'_>> = parts().filter_map(MediaRange::parse).collect();
    if ranges.is_empty() && parts().next().is_some() {
        let header = header.chars().take(MAX_SHOWN_CHARS).collect();
        return Err(UnreadableAccept { header });
    }
    let text = Wish::of(&ranges, Format::Text004);
    let openmetrics = Wish::of(&ranges, Format::OpenMetrics100);
    let prefers_openmetrics = openmetrics.quality > text.quality
        || (openmetrics.quality == text.quality && openmetrics.range_idx < text.range_idx);
    Ok(if prefers_openmetrics { Format::OpenMetrics100 } else { Format::Text004 })
}

/// Chooses the coding; an empty header stands for an absent one.
///
/// Of codings that are as welcome, zstd costs the node least. A wildcard stands for gzip, which whoever sends one can read.
#[must_use]
pub fn coding(header: &str) -> Coding {
    let (mut gzip, mut zstd, mut identity, mut any) = (None, None, None, None);
    for part in header.split(',') {
        let mut fields = part.split(';').map(str::trim);
        let name = fields.next().unwrap_or_default();
        let Some(quality) = quality(fields) else {
            continue;
        };
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(quality);
        } else if name.eq_ignore_ascii_case("zstd") {
            zstd = Some(quality);
        } else if name.eq_ignore_ascii_case("identity") {
            identity = Some(quality);
        } else if name == "*" {
            any = Some(quality);
        }
    }
    let gzip = gzip.or(any).unwrap_or(Quality::ZERO);
    let zstd = zstd.unwrap_or(Quality::ZERO);
    // Identity that is not named is welcome, but not more than what is named.
    let identity = identity.unwrap_or(Quality::ZERO);
    let is_best = |quality: Quality| {
        quality > Quality::ZERO && quality >= identity && quality >= gzip && quality >= zstd
    };
    if is_best(zstd) {
        Coding::Zstd
    } else if is_best(gzip) {
        Coding::Gzip
    } else {
        Coding::Identity
    }
}

/// One element of `Accept`.
struct MediaRange<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    quality: Quality,
}

impl<'a> MediaRange<'a> {
    fn parse(part: &'a str) -> Option<Self> {
        let mut fields = part.split(';').map(str::trim);
        let (kind, subtype) = fields.next()?.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) || (kind == "*" && subtype != "*") {
            return None;
        }
        let version = parameter(fields.clone(), "version");
        Some(Self { kind, subtype, version, quality: quality(fields)? })
    }

    /// How exactly the range names the format; nothing if it does not cover it.
    ///
    /// Other parameters, as `charset` or `escaping`, take nothing away: what Podmeter writes suits each of their values.
    fn specificity(&self, format: Format) -> Option<u8> {
        let (kind, subtype, version) = match format {
            Format::Text004 => ("text", "plain", "0.0.4"),
            Format::OpenMetrics100 => ("application", "openmetrics-text", "1.0.0"),
        };
        if self.kind == "*" {
            Some(0)
        } else if !self.kind.eq_ignore_ascii_case(kind) {
            None
        } else if self.subtype == "*" {
            Some(1)
        } else if !self.subtype.eq_ignore_ascii_case(subtype) {
            None
        } else {
            match self.version {
                None => Some(2),
                Some(asked) if asked == version => Some(3),
                Some(_) => None,
            }
        }
    }
}

/// How much a client wants a format, and where it said so.
struct Wish {
    quality: Quality,
    range_idx: usize,
}

impl Wish {
    /// The most specific range that covers the format decides.
    fn of(ranges: &[MediaRange<'_>], format: Format) -> Self {
        let mut wish = Self { quality: Quality::ZERO, range_idx: usize::MAX };
        let mut best_specificity = None;
        for (range_idx, range) in ranges.iter().enumerate() {
            let specificity = range.specificity(format);
            if specificity > best_specificity {
                best_specificity = specificity;
                wish = Self { quality: range.quality, range_idx };
            }
        }
        if wish.quality == Quality::ZERO {
            // A format that is ruled out is not preferred by its place either.
            wish.range_idx = usize::MAX;
        }
        wish
    }
}

/// A q-value in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Quality(u16);

impl Quality {
    const ZERO: Self = Self(0);
    const ONE: Self = Self(1000);

    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
        match whole {
            "0" => Some(Self(thousandths)),
            "1" if thousandths == 0 => Some(Self::ONE),
            _ => None,
        }
    }
}

/// The q-value among the parameters: 1 if there is none, nothing if it cannot be read.
fn quality<'a>(parameters: impl Iterator<Item = &'a str>) -> Option<Quality> {
    parameter(parameters, "q").map_or(Some(Quality::ONE), Quality::parse)
}

fn parameter<'a>(parameters: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    parameters.filter_map(|parameter| parameter.split_once('=')).find_map(|(known, value)| {
        known.trim_end().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::{Coding, Format, UnreadableAccept, coding, format};

    #[test]
    fn formats_that_are_chosen() {
        let check = |header: &str, expected| assert_eq!(format(header), Ok(expected), "{header}");
        let openmetrics = |header| check(header, Format::OpenMetrics100);
        let text = |header| check(header, Format::Text004);

        // Absent, and clients that take anything.
        text("");
        text(" ");
        text("*/*");
        text("text/*");
        // Prometheus 3.5, 2.45 and 2.20; the last reads OpenMetrics 0.0.1 only, which Podmeter does not write.
        openmetrics(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        );
        openmetrics(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        );
        text(
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        );
        // Prometheus with native histograms.
        openmetrics(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
             application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.2",
        );
        // vmagent and telegraf.
        text("text/plain;version=0.0.4;q=1,*/*;q=0.1");
        // Firefox and Chromium.
        text("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        text(
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        );
        // Asked for by name, by hand.
        openmetrics("application/openmetrics-text");
        openmetrics("Application/OpenMetrics-Text; Version=\"1.0.0\"");
        openmetrics("application/*");
        text("application/openmetrics-text;version=2.0.0");
        text("text/plain;version=1.0.0");
        // Ties go to what stands first; a wildcard names nothing.
        openmetrics("application/openmetrics-text, text/plain");
        text("text/plain, application/openmetrics-text");
        openmetrics("application/openmetrics-text, */*");
        // Ruled out.
        text("application/openmetrics-text;q=0, */*");
        openmetrics("text/plain;q=0, */*;q=0.5");
        text("application/openmetrics-text;q=0.0");
        text("*/*;q=0");
        // Readable, but nothing that Podmeter writes.
        text("image/png");
        // Garbage beside something readable.
        text("@@@, text/plain");
        openmetrics(";;q=1, application/openmetrics-text;q=0.5, text/plain;q=much");
    }

    #[test]
    fn garbage_is_reported() {
        let check = |header: &str, shown: &str| {
            assert_eq!(format(header), Err(UnreadableAccept { header: shown.to_owned() }));
        };
        check("garbage", "garbage");
        check("\u{fffd}\u{1}/x", "\u{fffd}\u{1}/x");
        check("*/plain", "*/plain");
        check("text/plain;q=2", "text/plain;q=2");
        check("text/plain;q=0.1234", "text/plain;q=0.1234");
        check("text/plain;q=-1", "text/plain;q=-1");
        check("/", "/");
        check(&"x".repeat(1000), &"x".repeat(80));
    }

    #[test]
    fn codings_that_are_chosen() {
        let check = |header: &str, expected| assert_eq!(coding(header), expected, "{header}");
        let gzip = |header| check(header, Coding::Gzip);
        let zstd = |header| check(header, Coding::Zstd);
        let identity = |header| check(header, Coding::Identity);

        gzip("gzip");
        gzip("GZip");
        gzip("x-gzip");
        gzip("gzip, zstd;q=0.9");
        gzip("zstd;q=0, *");
        gzip("deflate;q=0.5, gzip;q=1.0");
        gzip("gzip;q=0.001");
        gzip("*");
        gzip("identity;q=0, *");
        gzip("identity;q=0.5, gzip;q=0.5");
        gzip("br;q=1.0, *;q=0.1");

        zstd("zstd");
        zstd("gzip, deflate, br, ZSTD");
        zstd("zstd, gzip;q=0.9, identity;q=0.5");

        identity("");
        identity("zstd;q=0.5, identity");
        identity("identity");
        identity("deflate, br");
        identity("gzip;q=0");
        identity("gzip;q=0, *");
        identity("gzip;q=0.5, identity");
        identity("*;q=0");
        identity("identity;q=0");
        identity("gzip;q=yes");
        identity("gzippy");
    }
}
