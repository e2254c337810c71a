//! Messages against their bytes, and against another implementation of protobuf.

use std::sync::Arc;

use prost::Message as _;

use super::Message;
use crate::{
    config::remote_write::MessageKind,
    metric::FamilyType,
    page::relayed::FamilyMeta,
    remote_write::{
        series::{Outgoing, STALE},
        symbols::Symbols,
    },
};

/// As <https://prometheus.io/docs/specs/prw/remote_write_spec/> has them, and Prometheus' `MetricMetadata`.
mod first {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub(super) metadata: Vec<MetricMetadata>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricMetadata {
        #[prost(int32, tag = "1")]
        pub(super) r#type: i32,
        #[prost(string, tag = "2")]
        pub(super) metric_family_name: String,
        #[prost(string, tag = "4")]
        pub(super) help: String,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
    }
}

/// As <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/> has them.
mod second {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(string, repeated, tag = "4")]
        pub(super) symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub(super) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(uint32, repeated, tag = "1")]
        pub(super) labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<super::first::Sample>,
        #[prost(message, optional, tag = "5")]
        pub(super) metadata: Option<Metadata>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(super) r#type: i32,
        #[prost(uint32, tag = "3")]
        pub(super) help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub(super) unit_ref: u32,
    }
}

fn family() -> Arc<FamilyMeta> {
    let family_type = FamilyType::Histogram;
    Arc::new(FamilyMeta { name: "m".into(), family_type, help: "H.".into(), unit: "s".into() })
}

/// Two samples: of `m{a="ä"}` and, as a stale marker, of `n{a="m"}`.
fn message(kind: MessageKind, family: &Arc<FamilyMeta>) -> Vec<u8> {
    let mut symbols = Symbols::default();
    let mut message = Message::new(kind);
    let rows = [("m", "ä", 1.5, 1_700_000_000_123, Some(family)), ("n", "m", STALE, -1, None)];
    for (name, a, value, timestamp, family) in rows {
        let labels = symbols.take_all([("__name__", name), ("a", a)]);
        let sample = Outgoing { identity: 0, labels: &labels, value, timestamp, family };
        message.push(&symbols, &sample);
    }
    message.push_metadata(family);
    message.finish()
}

#[test]
fn the_first_message_is_read_back() {
    let bytes = message(MessageKind::WriteRequest, &family());
    let read = first::WriteRequest::decode(&*bytes).unwrap();
    let label = |name: &str, value: &str| first::Label { name: name.into(), value: value.into() };
    assert_eq!(read.timeseries[0].labels, [label("__name__", "m"), label("a", "ä")]);
    let sample = first::Sample { value: 1.5, timestamp: 1_700_000_000_123 };
    assert_eq!(read.timeseries[0].samples, [sample]);
    assert_eq!(read.timeseries[1].labels, [label("__name__", "n"), label("a", "m")]);
    let stale = &read.timeseries[1].samples[0];
    assert_eq!((stale.value.to_bits(), stale.timestamp), (0x7ff0_0000_0000_0002, -1));
    let metadata = &read.metadata[0];
    assert_eq!((metadata.r#type, &*metadata.metric_family_name), (3, "m"));
    assert_eq!((&*metadata.help, &*metadata.unit), ("H.", "s"));
    assert_eq!((read.timeseries.len(), read.metadata.len()), (2, 1));
}

#[test]
fn the_second_message_is_read_back() {
    let bytes = message(MessageKind::Request, &family());
    let read = second::Request::decode(&*bytes).unwrap();
    assert_eq!(read.symbols, ["", "H.", "s", "__name__", "m", "a", "ä", "n"]);
    assert_eq!(read.timeseries[0].labels_refs, [3, 4, 5, 6]);
    assert_eq!(read.timeseries[1].labels_refs, [3, 7, 5, 4]);
    let metadata = second::Metadata { r#type: 3, help_ref: 1, unit_ref: 2 };
    assert_eq!(read.timeseries[0].metadata, Some(metadata));
    assert_eq!(read.timeseries[1].metadata, None);
    assert_eq!(read.timeseries[0].samples[0].timestamp, 1_700_000_000_123);
}

#[test]
fn the_first_message_has_these_bytes() {
    let mut symbols = Symbols::default();
    let labels = symbols.take_all([("__name__", "m")]);
    let mut message = Message::new(MessageKind::WriteRequest);
    let sample =
        Outgoing { identity: 0, labels: &labels, value: 1.0, timestamp: 300, family: None };
    message.push(&symbols, &sample);
    let expected =
        b"\x0a\x1d\x0a\x0d\x0a\x08__name__\x12\x01m\x12\x0c\x09\0\0\0\0\0\0\xf0\x3f\x10\xac\x02";
    assert_eq!(message.finish(), expected);
}

#[test]
fn a_symbol_that_means_another_text_on_the_next_page_is_written_anew() {
    let mut symbols = Symbols::default();
    let mut message = Message::new(MessageKind::Request);
    for name in ["m", "n"] {
        message.begin_page();
        let labels = symbols.take_all([("__name__", name)]);
        let sample =
            Outgoing { identity: 0, labels: &labels, value: 1.0, timestamp: 1, family: None };
        message.push(&symbols, &sample);
        symbols.give_back(&labels);
    }
    let read = second::Request::decode(&*message.finish()).unwrap();
    let names = read.timeseries.iter().map(|one| &*read.symbols[one.labels_refs[1] as usize]);
    assert_eq!(names.collect::<Vec<_>>(), ["m", "n"]);
}
