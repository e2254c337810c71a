//! The bill of materials of the binary, `CycloneDX` 1.5 in JSON: the crates that cargo links into it and into the eBPF
//! objects in it, the C library, and Rust's own. What only builds or tests it is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    cargo::{self, STATIC_TARGET},
    process,
};

/// The package and the target of each program that the binary is made of.
const PROGRAMS: &[(&str, &str)] =
    &[("podmeter", STATIC_TARGET), ("podmeter-ebpf", "bpfel-unknown-none")];

/// Writes the bill of the sources at `root`.
pub(super) fn write(root: &Path, file: &Path, epoch: &str) -> Result<()> {
    let metadata = metadata(root)?;
    let linked = linked(root)?;
    let checksums = checksums(&fs::read_to_string(root.join("Cargo.lock"))?);
    let when = ["-u", &format!("--date=@{epoch}"), "+%Y-%m-%dT%H:%M:%SZ"];
    let when = process::output(Command::new("date").args(when))?;
    let bill = document(&metadata, &linked, &checksums, own_libraries()?, when.trim());
    let text = serde_json::to_string_pretty(&bill)? + "\n";
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

fn metadata(root: &Path) -> Result<Value> {
    let mut command = cargo::cargo_in(root);
    let text = process::output(command.args(["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_str(&text).context("cargo metadata gave no JSON")
}

/// Name and version of every crate that is linked.
fn linked(root: &Path) -> Result<BTreeSet<(String, String)>> {
    let mut linked = BTreeSet::new();
    for (package, target) in PROGRAMS {
        let mut command = cargo::cargo_in(root);
        command.args(["tree", "--locked", "--package", package, "--target", target]);
        command.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
        let text = process::output(&mut command)?;
        linked.extend(text.lines().filter_map(named));
    }
    Ok(linked)
}

/// A line such as `aya v0.14.0`, or `podmeter v0.1.0 (/path)`.
fn named(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some((name.into(), version.into()))
}

/// The SHA-256 of each crate of the registry, from the lock file.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    let of_package = |package| {
        Some(((value(package, "name")?, value(package, "version")?), value(package, "checksum")?))
    };
    packages.filter_map(of_package).collect()
}

fn document(
    metadata: &Value,
    linked: &BTreeSet<(String, String)>,
    checksums: &BTreeMap<(String, String), String>,
    others: Vec<Value>,
    when: &str,
) -> Value {
    let mut components = BTreeMap::new();
    let mut references = BTreeMap::new();
    for package in list(metadata, "packages") {
        let key = (text(package, "name").to_owned(), text(package, "version").to_owned());
        if linked.contains(&key) {
            references.insert(text(package, "id"), reference(&key));
            let component = component(&key, package, checksums.get(&key));
            components.insert(key, component);
        }
    }
    let main = components.keys().find(|(name, _)| name == MAIN).cloned();
    let main = main.and_then(|key| components.remove(&key));
    let nodes = metadata.get("resolve").map(|resolve| list(resolve, "nodes")).unwrap_or_default();
    let dependencies: BTreeMap<&String, Value> = nodes
        .iter()
        .filter_map(|node| {
            let of = references.get(text(node, "id"))?;
            let on = list(node, "deps").iter().filter(|dependency| is_linked(dependency));
            let on: BTreeSet<&String> =
                on.filter_map(|dependency| references.get(text(dependency, "pkg"))).collect();
            Some((of, json!({ "ref": of, "dependsOn": on })))
        })
        .collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "timestamp": when, "component": main },
        "components": components.into_values().chain(others).collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    })
}

/// The package that the binary is of.
const MAIN: &str = "podmeter";

fn reference((name, version): &(String, String)) -> String {
    format!("pkg:cargo/{name}@{version}")
}

fn component(key: &(String, String), package: &Value, checksum: Option<&String>) -> Value {
    let (name, version) = key;
    // Before SPDX had expressions, a slash stood for OR.
    let license = text(package, "license").replace('/', " OR ").replace("  ", " ");
    let licenses = [license].into_iter().filter(|license| !license.is_empty());
    let licenses: Vec<Value> = licenses.map(|license| json!({ "expression": license })).collect();
    let hashes = checksum.iter().map(|sum| json!({ "alg": "SHA-256", "content": sum }));
    json!({
        "type": if name == MAIN { "application" } else { "library" },
        "bom-ref": reference(key),
        "name": name,
        "version": version,
        "purl": reference(key),
        "licenses": licenses,
        "hashes": hashes.collect::<Vec<_>>(),
    })
}

/// Whether a dependency is there when the program runs, and not only to build or test it.
fn is_linked(dependency: &Value) -> bool {
    list(dependency, "dep_kinds").iter().any(|kind| kind.get("kind").is_none_or(Value::is_null))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What is linked without being a crate: the C library of the machine that builds, and the compiler's libraries.
fn own_libraries() -> Result<Vec<Value>> {
    let word = |text: String, idx: usize| {
        let word = text.split_whitespace().nth(idx).map(str::to_owned);
        word.with_context(|| format!("{text:?} names no version"))
    };
    let libc = process::output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let rust = process::output(Command::new("rustc").arg("--version"))?;
    let library = |name: &str, version: String, license: &str| {
        json!({
            "type": "library",
            "bom-ref": format!("pkg:generic/{name}@{version}"),
            "name": name,
            "version": version,
            "purl": format!("pkg:generic/{name}@{version}"),
            "licenses": [{ "expression": license }],
        })
    };
    Ok(vec![
        library("glibc", word(libc, 1)?, "LGPL-2.1-or-later"),
        library("rust-std", word(rust, 1)?, "MIT OR Apache-2.0"),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::{checksums, document, named};

    fn key(name: &str, version: &str) -> (String, String) {
        (name.into(), version.into())
    }

    #[test]
    fn lines_of_cargo_tree() {
        let check = |line: &str, expected| assert_eq!(named(line), expected);
        check("aya v0.14.0", Some(key("aya", "0.14.0")));
        check("aya v0.14.0 (*)", Some(key("aya", "0.14.0")));
        check("podmeter v0.1.0 (/work/exporter)", Some(key("podmeter", "0.1.0")));
        check("", None);
    }

    #[test]
    fn checksums_of_a_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"x\"\nchecksum = \"ab\"\n\
                    \n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\ndependencies = [\n \"a\",\n]\n";
        assert_eq!(checksums(lock), BTreeMap::from([(key("a", "1.0.0"), "ab".to_owned())]));
    }

    #[test]
    fn only_what_is_linked_is_listed() {
        let package = |name: &str, license: &str| json!({ "name": name, "version": "1.0.0", "id": name, "license": license });
        let edge = |name: &str, kind| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [package("podmeter", "Apache-2.0"), package("a", "MIT/Apache-2.0"), package("test", "MIT")],
            "resolve": { "nodes": [
                { "id": "podmeter", "deps": [edge("a", None), edge("test", Some("dev"))] },
                { "id": "a", "deps": [] },
                { "id": "test", "deps": [edge("a", None)] },
            ] },
        });
        let linked = BTreeSet::from([key("podmeter", "1.0.0"), key("a", "1.0.0")]);
        let checksums = BTreeMap::from([(key("a", "1.0.0"), "ab".to_owned())]);
        let bill = document(&metadata, &linked, &checksums, Vec::new(), "2026-11-28T00:00:00Z");
        assert_eq!(bill["metadata"]["component"]["name"], "podmeter");
        assert_eq!(
            bill["components"],
            json!([{
                "type": "library", "bom-ref": "pkg:cargo/a@1.0.0", "name": "a", "version": "1.0.0",
                "purl": "pkg:cargo/a@1.0.0", "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "hashes": [{ "alg": "SHA-256", "content": "ab" }],
            }])
        );
        assert_eq!(
            bill["dependencies"],
            json!([
                { "ref": "pkg:cargo/a@1.0.0", "dependsOn": [] },
                { "ref": "pkg:cargo/podmeter@1.0.0", "dependsOn": ["pkg:cargo/a@1.0.0"] },
            ])
        );
    }
}
