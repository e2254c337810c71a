//! What of a page is shown. Pure.

use crate::{
    labelling::glance::Reading,
    source::upstream::exposition::{Dialect, Line, LineError, Reader, parse_series},
};

/// What every page of a Podmeter has.
const OWN: &[u8] = b"podmeter_build_info";
const PREFIX: &[u8] = b"podmeter_";

/// Reads a page; none if it is not a Podmeter's.
pub(super) fn read(page: &[u8], content_type: Option<&str>) -> Result<Option<Reading>, LineError> {
    let Some(dialect) = content_type.and_then(Dialect::of_content_type) else {
        return Ok(None);
    };
    let mut reader = Reader::new(page, dialect);
    let mut reading = Reading::default();
    let mut is_own = false;
    while let Some(line) = reader.next_line() {
        let Line::Sample { series, tail } = line? else {
            continue;
        };
        if !series.starts_with(PREFIX) {
            continue;
        }
        is_own |= series.starts_with(OWN);
        let parts = parse_series(series).map_err(|(column, fault)| LineError {
            line: reader.line_number(),
            column,
            fault,
        })?;
        let value = str::from_utf8(tail.value).ok().and_then(|text| text.parse::<f64>().ok());
        let Some(value) = value.filter(|value| value.is_finite()) else {
            continue;
        };
        let label = |name: &str| {
            let (_, value) = parts.labels.iter().find(|(known, _)| known == name)?;
            Some(value.as_ref())
        };
        reading.add_sample(&parts.name, label, value);
    }
    Ok(is_own.then_some(reading))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::read;
    use crate::labelling::glance::{Signal, rates};

    const TEXT: Option<&str> = Some("text/plain; version=0.0.4");

    fn page(throttled: u64) -> String {
        format!(
            "# HELP podmeter_build_info Help.\npodmeter_build_info{{version=\"0\"}} 1\n\
             podmeter_cpu_cfs_throttled_seconds_total{{namespace=\"n\",pod=\"p\",container=\"a\\\"b\"}} {throttled}\n\
             podmeter_io_bytes_total{{cgroup=\"/x\",device=\"vda\",operation=\"read\"}} NaN\nup 1\n"
        )
    }

    #[test]
    fn a_page_is_read_and_what_is_none_is_not() {
        let read_text = |text: &str| read(text.as_bytes(), TEXT).unwrap();
        let before = read_text(&page(1)).unwrap();
        let after = read_text(&page(3)).unwrap();
        let rates = rates(&before, &after, Duration::from_secs(2));
        let row = &rates.rows[0];
        assert_eq!(
            (row.who.as_str(), Signal::Throttled.of(&row.rates)),
            ("n/p/a\"b", Some(1000.0))
        );
        assert_eq!(rates.rows.len(), 1, "what is no number is not shown");

        assert_eq!(read_text("node_load1 1\n"), None);
        assert_eq!(read(b"<html>", Some("text/html")).unwrap(), None);
        assert_eq!(read(page(1).as_bytes(), None).unwrap(), None);
        let error = read(b"podmeter_build_info 1\npodmeter_x{ 1\n", TEXT).unwrap_err();
        assert_eq!(error.line, 2);
    }
}
