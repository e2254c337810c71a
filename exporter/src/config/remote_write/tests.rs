//! What `remote_write` says and refuses.

use std::time::Duration;

use super::{MessageKind, QueueConfig, RemoteWriteConfig};
use crate::{
    config::{Config, ConfigError},
    error_chain::one_line,
};

fn parse(yaml: &str) -> Result<Config, ConfigError> {
    Config::parse(yaml, "f", &|name| (name == "TENANT").then(|| "t1".to_owned()))
}

fn one(yaml: &str) -> RemoteWriteConfig {
    let mut parsed = parse(yaml).unwrap().remote_write;
    assert_eq!(parsed.len(), 1);
    parsed.remove(0)
}

#[test]
fn a_url_is_enough() {
    let config = parse("remote_write: [{ url: 'http://r:9090/api/v1/write' }]").unwrap();
    assert_eq!(config.remote_write_interval, Duration::from_secs(15));
    let endpoint = &config.remote_write[0];
    assert_eq!(endpoint.name, "r:9090");
    assert_eq!(endpoint.timeout, Duration::from_secs(30));
    assert_eq!(endpoint.message, MessageKind::WriteRequest);
    assert_eq!(endpoint.queue, QueueConfig::default());
    assert_eq!(endpoint.metadata_interval, Some(Duration::from_mins(1)));
    assert_eq!(endpoint.buffer, None);
}

#[test]
fn every_key_is_understood() {
    let config = one("
remote_write_interval: 5s
remote_write:
- url: https://r/write
  name: main
  remote_timeout: 5s
  headers: { X-Scope-OrgID: '${TENANT}' }
  protobuf_message: io.prometheus.write.v2.Request
  write_relabel_configs: [{ regex: id, action: labeldrop }]
  basic_auth: { username: u, password: p }
  tls_config: { insecure_skip_verify: true }
  queue_config: { capacity: 10, min_shards: 2, max_shards: 3, max_samples_per_send: 7, batch_send_deadline: 1s, min_backoff: 1s, max_backoff: 2s, retry_on_http_429: false, sample_age_limit: 1h }
  metadata_config: { send: false }
  buffer: { directory: /var/lib/b, size_limit: 1GB }
");
    assert_eq!(config.name, "main");
    assert_eq!(config.headers[0].0.as_str(), "x-scope-orgid");
    assert_eq!(config.headers[0].1.to_str().unwrap(), "t1");
    assert_eq!(config.message, MessageKind::Request);
    assert_eq!((config.queue.min_shards, config.queue.max_shards), (2, 3));
    assert_eq!(config.queue.sample_age_limit, Some(Duration::from_hours(1)));
    assert_eq!(config.metadata_interval, None);
    assert_eq!(config.buffer.unwrap().size_limit, 1 << 30);
    assert_eq!(config.rules.len(), 1);
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let check = |item: &str, expected: &str| {
        let error = parse(&format!("remote_write:\n{item}")).unwrap_err();
        let said = one_line(&error);
        assert!(said.starts_with("f:") && said.contains(expected), "{item}: {said}");
    };
    let with = |more: &str| format!("- {{ url: 'http://r/w', {more} }}");
    check("- { name: a }", "the key `url` is missing");
    check("- { url: 'ftp://r/' }", "`url` is `ftp://r/`, but it takes http://");
    check("- { url: 'http://u:p@r/' }", "use `basic_auth`");
    check("- { url: 'http://r/w' }\n- { url: 'http://r/x' }", "the name `r` stands here");
    check(&with("retries: 1"), "unknown key `retries`");
    check(&with("protobuf_message: v2"), "it takes prometheus.WriteRequest");
    check(&with("headers: { Content-Type: a }"), "`headers` has `Content-Type`");
    check(&with("remote_timeout: 0s"), "`remote_timeout` is `0s`");
    check(&with("queue_config: { capacity: 0 }"), "`queue_config.capacity` is `0`");
    check(&with("queue_config: { min_shards: 9 }"), "no more than max_shards");
    check(&with("write_relabel_configs: [{ action: keep, regex: '(' }]"), "write_relabel_configs");
    check(&with("buffer: { directory: b, size_limit: 1GB }"), "a path from the root");
    check(&with("buffer: { directory: /b, size_limit: 1KB }"), "at least 1MB");
    check(&with("buffer: { directory: /b }"), "the key `buffer.size_limit` is missing");
    let same = "- { url: 'http://a/', buffer: { directory: /b, size_limit: 1MB } }\n";
    check(
        &format!("{same}{}", same.replace("//a", "//c")),
        "`buffer.directory` is `/b` for the second",
    );
    let error = parse("remote_write_interval: 100ms").unwrap_err();
    assert!(one_line(&error).contains("from 1s to 5m"), "{error}");
}
