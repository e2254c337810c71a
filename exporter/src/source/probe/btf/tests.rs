//! Look-ups in a small hand-made file, in broken ones, and in the running kernel's own beside another parser.

use std::path::Path;

use btfparse::{Offset, TypeInformation, TypeVariant};
use proptest::prelude::{ProptestConfig, any, proptest};

use super::{
    BtfError, KernelTypes,
    raw::{Btf, Malformed},
};
use crate::{error_chain::one_line, paths::HostPaths};

/// Writes BTF: strings and types in the order in which they are added.
#[derive(Default)]
struct Builder {
    strings: Vec<u8>,
    types: Vec<u8>,
}

impl Builder {
    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len();
        self.strings.extend(text.bytes().chain([0]));
        u32::try_from(offset).unwrap()
    }

    fn add(&mut self, name: &str, kind: u32, n_items: u32, size_or_type: u32, extra: &[u32]) {
        let name = self.string(name);
        let header = [name, kind << 24 | n_items, size_or_type];
        for word in header.iter().chain(extra) {
            self.types.extend(word.to_ne_bytes());
        }
    }

    fn finish(&self) -> Vec<u8> {
        let types_len = u32::try_from(self.types.len()).unwrap();
        let strings_len = u32::try_from(self.strings.len()).unwrap();
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.types.iter().chain(&self.strings));
        bytes
    }
}

/// `struct rq { u64 lock; union { u64 clock; u32 low; }; const struct inner in; u32 flag:1; }`,
/// `struct inner { u32 a; u32 b[2]; }`, `void tick(struct rq *)`.
fn small() -> Vec<u8> {
    let mut btf = Builder::default();
    btf.add("u64", 1, 0, 8, &[64]); // 1
    btf.add("u32", 1, 0, 4, &[32]); // 2
    let [clock, low] = ["clock", "low"].map(|name| btf.string(name));
    btf.add("", 5, 2, 8, &[clock, 1, 0, low, 2, 0]); // 3
    btf.add("", 3, 0, 0, &[2, 2, 2]); // 4
    let [a, b] = ["a", "b"].map(|name| btf.string(name));
    btf.add("inner", 4, 2, 12, &[a, 2, 0, b, 4, 32]); // 5
    btf.add("", 10, 0, 5, &[]); // 6
    let [lock, inner, flag] = ["lock", "in", "flag"].map(|name| btf.string(name));
    let members = [[lock, 1, 0], [0, 3, 64], [inner, 6, 128], [flag, 2, 0xe0 | 1 << 24]];
    // A function of the structure's name, which must not be taken for it.
    btf.add("rq", 12, 0, 0, &[]); // 7
    btf.add("rq", 4 | 1 << 7, 4, 32, &members.concat()); // 8, with bit sizes
    btf.add("", 2, 0, 8, &[]); // 9
    btf.add("", 13, 1, 0, &[0, 9]); // 10
    btf.add("tick", 12, 0, 10, &[]); // 11
    btf.finish()
}

fn types(bytes: Vec<u8>) -> KernelTypes {
    KernelTypes::parse(bytes).unwrap()
}

#[test]
fn a_structure_that_contains_itself_has_an_end() {
    let mut btf = Builder::default();
    // Each of a hundred unnamed members is the structure again.
    let members = [0, 1, 0].repeat(100);
    btf.add("endless", 4, 100, 4, &members);
    assert!(!types(btf.finish()).has_field("endless", "none"));
}

#[test]
fn offsets_are_found_through_nested_and_unnamed_structures() {
    let types = types(small());
    let check = |field, size, expected: Result<u32, &str>| {
        let found = types.offset("rq", field, size).map_err(|error| one_line(&error));
        assert_eq!(found, expected.map_err(str::to_owned), "{field}");
    };
    check("lock", 8, Ok(0));
    check("clock", 8, Ok(8));
    check("low", 4, Ok(8));
    check("in.a", 4, Ok(16));
    check("in.b", 8, Ok(20));
    check("gone", 8, Err("this kernel's struct rq has no field gone"));
    check("lock.x", 8, Err("this kernel's struct rq has no field lock.x"));
    check(
        "low",
        8,
        Err("this kernel's rq.low is 4 bytes wide, where a field of 8 bytes is needed"),
    );
    check(
        "flag",
        4,
        Err("this kernel's rq.flag is a field of 1 bits, where a field of 4 bytes is needed"),
    );
    assert!(types.has_field("rq", "clock"));
    assert!(!types.has_field("rq", "gone"));
    assert!(!types.has_field("gone", "clock"));
}

#[test]
fn a_prototype_is_checked() {
    let types = types(small());
    let check = |name, expected, outcome: &str| {
        let found = types.check_first_parameter(name, expected);
        let found = found.map_or_else(|error: BtfError| one_line(&error), |()| "ok".to_owned());
        assert_eq!(found, outcome);
    };
    check("tick", "rq", "ok");
    check(
        "tick",
        "inner",
        "this kernel's tick takes no pointer to struct inner where one is needed",
    );
    check("tock", "rq", "this kernel has no function tock");
}

/// `typedef void (*btf_trace_done)(void *, struct rq *, u32)`, `enum fruit { APPLE = 1, PEAR = 5 }`.
fn traced() -> Vec<u8> {
    let mut btf = Builder::default();
    btf.add("u32", 1, 0, 4, &[32]); // 1
    btf.add("rq", 4, 0, 8, &[]); // 2
    btf.add("", 2, 0, 2, &[]); // 3: struct rq *
    btf.add("", 2, 0, 0, &[]); // 4: void *
    btf.add("", 13, 3, 0, &[0, 4, 0, 3, 0, 1]); // 5
    btf.add("", 2, 0, 5, &[]); // 6
    btf.add("btf_trace_done", 8, 0, 6, &[]); // 7
    let [apple, pear] = ["APPLE", "PEAR"].map(|name| btf.string(name));
    btf.add("fruit", 6, 2, 4, &[apple, 1, pear, 5]); // 8
    btf.finish()
}

#[test]
fn arguments_of_tracepoints_are_found() {
    let types = types(traced());
    let check = |name, expected, outcome: Result<u32, &str>| {
        let found = types.tracepoint_argument(name, expected);
        assert_eq!(found.map_err(|error| one_line(&error)), outcome.map_err(str::to_owned));
    };
    check("done", "rq", Ok(0));
    check(
        "done",
        "bio",
        Err("this kernel's done takes no pointer to struct bio where one is needed"),
    );
    check("begun", "rq", Err("this kernel has no tracepoint begun"));
    assert_eq!(types.n_tracepoint_arguments("done").ok(), Some(2));
    let positions = |expected| types.tracepoint_positions("done", expected).ok();
    assert_eq!(positions("rq"), Some(vec![0]));
    assert_eq!(positions("bio"), Some(Vec::new()));
    assert!(types.tracepoint_positions("begun", "rq").is_err());
}

#[test]
fn first_arguments_of_tracepoints_are_checked() {
    let types = types(traced());
    let check = |name, expected: &[&'static str], outcome: &str| {
        let found = types.check_tracepoint(name, expected);
        let found = found.map_or_else(|error| one_line(&error), |()| "ok".to_owned());
        assert_eq!(found, outcome);
    };
    check("done", &["rq"], "ok");
    let no_rq = "this kernel's done takes no pointer to struct rq where one is needed";
    check("done", &["rq", "rq"], no_rq);
    check("done", &["rq", "rq", "rq"], no_rq);
    check("begun", &["rq"], "this kernel has no tracepoint begun");
}

#[test]
fn enumerations_are_read() {
    let types = types(traced());
    assert_eq!(types.enumerators("fruit"), [("APPLE", 1), ("PEAR", 5)]);
    assert_eq!(types.enumerators("gone"), []);
    assert_eq!(types.enumerator("fruit", "PEAR").ok(), Some(5));
    let missing = types.enumerator("fruit", "PLUM").unwrap_err();
    assert_eq!(one_line(&missing), "this kernel has no PLUM in enum fruit");
}

#[test]
fn what_is_not_btf_is_refused() {
    let check = |bytes: Vec<u8>, expected| assert_eq!(Btf::parse(bytes).err(), Some(expected));
    check(Vec::new(), Malformed::Magic);
    check(b"\x7fELF".to_vec(), Malformed::Magic);
    check(small()[..20].to_vec(), Malformed::CutOff { at: 20 });
    check(small()[..60].to_vec(), Malformed::CutOff { at: 60 });
    let mut newer = small();
    newer[24 + 7] = 0x1f;
    check(newer, Malformed::UnknownKind { at: 24, kind: 31 });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_input_makes_it_panic(change in any::<Vec<(usize, u8)>>()) {
        let mut bytes = small();
        for (at, byte) in change {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        if let Ok(btf) = Btf::parse(bytes) {
            let types = KernelTypes { btf };
            for field in ["clock", "in.b", "flag"] {
                drop(types.offset("rq", field, 8));
            }
            drop(types.check_first_parameter("tick", "rq"));
        }
    }
}

/// The same questions to crate `btfparse`, an independent parser, about the kernel that the test runs on.
#[test]
fn agrees_with_btfparse_on_the_running_kernel() {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    let Ok(bytes) = std::fs::read(path) else {
        return println!("skipped: {} is not there", path.display());
    };
    let types = KernelTypes::read(&HostPaths::default()).unwrap();
    let referee = TypeInformation::new(&Bytes(bytes)).unwrap();
    for (name, field, size) in [
        ("cfs_rq", "throttled_clock", 8),
        ("cfs_rq", "runtime_remaining", 8),
        ("task_group", "css.cgroup", 8),
        ("rq", "clock", 8),
        ("kernfs_node", "id", 8),
        ("sk_buff", "len", 4),
        ("sock", "sk_cgrp_data.cgroup", 8),
        ("task_struct", "thread.sp", 8),
    ] {
        let is_wanted = |kind: &&TypeVariant| matches!(kind, TypeVariant::Struct(found) if found.name().as_deref() == Some(name));
        let id = referee.get().iter().find(|(_, kind)| is_wanted(kind)).map(|(id, _)| *id).unwrap();
        let (_, Offset::ByteOffset(expected)) = referee.offset_of(id, field).unwrap() else {
            panic!("{name}.{field} is a bit field")
        };
        assert_eq!(types.offset(name, field, size).unwrap(), expected, "{name}.{field}");
    }
}

struct Bytes(Vec<u8>);

impl btfparse::Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.0[offset..offset + buffer.len()]);
        Ok(())
    }
}
