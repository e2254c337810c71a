//! The bill of materials beside the image.

use std::{collections::BTreeSet, fs};

use podmeter_tests::tools::tool;
use serde_json::Value;

const LOCK: &str = include_str!("../../../Cargo.lock");

#[test]
fn it_lists_what_is_linked_with_the_checksums_of_the_lock_file() {
    let Some(file) = tool("PODMETER_SBOM") else { return };
    let text = fs::read_to_string(file).expect("it can be read");
    let bill: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["component"]["name"], "podmeter");
    let components = bill["components"].as_array().expect("components");
    let name = |component: &Value| component["name"].as_str().expect("a name").to_owned();
    let names: BTreeSet<String> = components.iter().map(name).collect();
    // A crate of the binary, one of the eBPF objects, one with C in it, the C library.
    for expected in ["aya", "aya-ebpf", "ring", "glibc"] {
        assert!(names.contains(expected), "{expected} is missing in {names:?}");
    }
    for absent in ["criterion", "proptest", "rcgen", "serde_derive", "xtask"] {
        assert!(!names.contains(absent), "{absent} is in no binary");
    }
    for component in components {
        let purl = component["purl"].as_str().expect("a package URL");
        if purl.starts_with("pkg:generic/") || name(component).starts_with("podmeter-") {
            continue;
        }
        let checksum = component["hashes"][0]["content"].as_str().expect(purl);
        assert!(LOCK.contains(&format!("checksum = \"{checksum}\"")), "{purl}");
        assert!(component["licenses"][0]["expression"].is_string(), "{purl}");
    }
    let references: BTreeSet<&str> =
        components.iter().map(|one| one["bom-ref"].as_str().expect("a reference")).collect();
    assert_eq!(references.len(), components.len(), "no component is there twice");
    for dependency in bill["dependencies"].as_array().expect("dependencies") {
        for on in dependency["dependsOn"].as_array().expect("a list") {
            assert!(references.contains(on.as_str().expect("a reference")), "{on}");
        }
    }
    println!("report: image | components | {}", components.len());
}
