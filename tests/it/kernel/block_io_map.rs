//! What `block_io` keeps of requests while many are under way.

use podmeter::source::probe::HookKind;
use podmeter_common::block_io::MAX_KEPT;
use podmeter_tests::{
    bpf_map::{add_to_array, n_entries},
    disk::DirectFile,
    machine::is_test_vm,
};

use super::block_io::{check_direct_io_with, start, vm_disk};

/// While the map of requests is more than half full, entries go when their requests end; a test has not so many
/// requests, so it says that there are.
#[test]
fn direct_io_agrees_while_the_map_of_requests_is_nearly_full() {
    let (hook, case) = (HookKind::BtfTracepoint, "map nearly full, direct");
    check_direct_io_with(hook, case, say_that_there_are_many);
    // Elsewhere other tasks have requests, which were there before so many seemed to be.
    if is_test_vm() {
        let _probe = start();
        say_that_there_are_many();
        let disk = vm_disk().expect("it is a guest");
        let mut file = DirectFile::open(&disk.node()).expect("root may open it");
        for idx in 0..32 {
            file.read(4096, idx * 65_536).expect("the disk gives it");
        }
        assert_eq!(n_entries("IN_FLIGHT"), 0, "requests that have ended are kept");
    }
}

fn say_that_there_are_many() {
    add_to_array("N_IN_FLIGHT", u64::from(MAX_KEPT) + 1_000);
}
