//! The image that `cargo xtask test image` built: it has the binary and nothing else, and that is enough.

mod sbom;

use std::net::Ipv4Addr;

use podmeter_tests::{
    exporter::Exporter,
    http::get,
    image::{Image, KUBECONFIG},
    name_server, page_server,
};

/// An address of the loopback that nobody else has a name server on.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 77, 1);

const DAEMON_SET: &str = include_str!("../../../deploy/kustomize/privileged/daemonset.yaml");

#[test]
fn it_holds_one_file_under_the_name_that_the_manifests_have() {
    let Some(image) = Image::unpack() else { return };
    assert_eq!(image.files(), "f 755 0 podmeter\n");
    assert_eq!(image.config["config"]["Entrypoint"], serde_json::json!(["/podmeter"]));
    let name = image.descriptor["annotations"]["org.opencontainers.image.ref.name"].as_str();
    // A kubelet reads it so, and containerd imports it under this name.
    let name = name.and_then(|name| name.strip_prefix("docker.io/library/"));
    let name = name.expect("the archive says what the image is called");
    assert!(DAEMON_SET.contains(&format!("image: {name}\n")), "{name}");
}

#[test]
fn it_serves_a_page_and_ends_politely() {
    let Some(image) = Image::unpack() else { return };
    let exporter = image.start("kubernetes: { enabled: false }\n", &[]);
    let page = get(&exporter.url("/metrics"), &[]);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("podmeter_build_info{"), "{}", page.text());
    assert!(
        page.text().contains("podmeter_source_success{source=\"process\"} 1"),
        "{}",
        page.text()
    );
    let attached = page.text().lines().filter(|line| line.starts_with("podmeter_probe_attached{"));
    let attached: Vec<&str> = attached.filter(|line| line.ends_with(" 1")).collect();
    assert!(attached.iter().any(|line| line.contains("network")), "{attached:?}");
    assert_eq!(get(&exporter.url("/"), &[]).status, 200);
    end(exporter);
}

/// A static C library finds names by itself, from the files that the kubelet mounts.
#[test]
fn names_are_found_in_hosts_and_by_dns() {
    let Some(image) = Image::unpack() else { return };
    name_server::serve(NAME_SERVER, Ipv4Addr::LOCALHOST);
    let target = page_server::serve("text/plain", |_| b"from_target 1\n".to_vec());
    let port = target.port();
    let config = format!(
        "kubernetes: {{ enabled: false }}\nscrape_configs:\n\
         - {{ job_name: hosts, url: 'http://in-hosts:{port}/metrics' }}\n\
         - {{ job_name: dns, url: 'http://by-dns.test:{port}/metrics' }}\n"
    );
    let hosts = "127.0.0.1 localhost in-hosts\n";
    let resolv = format!("nameserver {NAME_SERVER}\n");
    let files = [("/etc/hosts", hosts), ("/etc/resolv.conf", resolv.as_str())];
    let exporter = image.start(&config, &files);
    let page = get(&exporter.url("/metrics"), &[]);
    for job in ["hosts", "dns"] {
        let sample = format!("from_target{{job=\"{job}\",node=\"image-test\"}} 1");
        assert!(page.text().contains(&sample), "{}", page.text());
    }
    end(exporter);
}

/// The image has no list of authorities; what needs one says which key names it.
#[test]
fn who_needs_public_authorities_is_told_what_to_set() {
    let Some(image) = Image::unpack() else { return };
    let config = "kubernetes: { enabled: false }\nscrape_configs:\n\
                  - { job_name: public, url: 'https://127.0.0.1:1/metrics' }\n";
    let exporter = image.start(config, &[]);
    assert_eq!(get(&exporter.url("/metrics"), &[]).status, 200);
    let landing = get(&exporter.url("/"), &[]);
    assert!(landing.text().contains("set tls_config.ca_file"), "{}", landing.text());
    end(exporter);

    let kubeconfig = |cluster: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nusers: [ {{ name: u, user: {{ token: t }} }} ]\n\
             contexts: [ {{ name: c, context: {{ cluster: k, user: u }} }} ]\n\
             clusters: [ {{ name: k, cluster: {{ {cluster} }} }} ]\n"
        )
    };
    let said = |cluster: &str| {
        let output = image.check("scrape_configs: []\n", &[(KUBECONFIG, &kubeconfig(cluster))]);
        String::from_utf8(output.stdout).expect("text")
    };
    let without = said("server: 'https://127.0.0.1:1'");
    assert!(without.contains("certificate-authority"), "{without}");
    let plain = said("server: 'http://127.0.0.1:1'");
    assert!(!plain.contains("certificate-authority"), "{plain}");
}

/// It ends politely, and runc takes the cgroups of its container away.
fn end(exporter: Exporter) {
    let (status, log) = exporter.terminate();
    assert!(status.success(), "{status}: {log}");
}
