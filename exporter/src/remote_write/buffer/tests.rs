//! The buffer as it lives on: across processes, torn files, full disks and its own limit.

use std::{fs, path::Path};

use super::{
    Buffer, BufferError, FolderState, Header, Recovered, Segment,
    record::{self, HEADER_BYTES},
    try_out,
};
use crate::config::remote_write::{BufferConfig, MessageKind};

const LIMIT: u64 = 1 << 20;

fn open(directory: &Path) -> (Buffer, Recovered) {
    Buffer::open(&BufferConfig { directory: directory.into(), size_limit: LIMIT }).unwrap()
}

fn header(n_samples: usize) -> Header {
    Header { kind: MessageKind::Request, n_samples, newest: 7 }
}

fn append(buffer: &mut Buffer, n_samples: usize, body: &[u8]) -> (super::Place, Vec<u64>) {
    let mut dropped = Vec::new();
    let place = buffer.append(&header(n_samples), body, &mut dropped).unwrap();
    (place, dropped)
}

/// The numbers of samples of what was found, which tests use as names.
fn names(recovered: &Recovered) -> Vec<usize> {
    recovered.waiting.iter().map(|(_, header)| header.n_samples).collect()
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    Segment::list(directory).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn what_is_not_done_is_found_by_the_next_process_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("made/by/need");
    let (mut buffer, recovered) = open(&directory);
    assert_eq!(names(&recovered), [0_usize; 0]);
    let places: Vec<_> =
        (0..5).map(|n| append(&mut buffer, n, format!("body {n}").as_bytes()).0).collect();
    buffer.mark_done(places[1]).unwrap();
    buffer.mark_done(places[3]).unwrap();
    assert_eq!(buffer.read(places[4]).unwrap(), b"body 4");
    drop(buffer);
    let (mut buffer, recovered) = open(&directory);
    assert_eq!((names(&recovered), recovered.n_torn), (vec![0, 2, 4], 0));
    let (place, found) = recovered.waiting[1];
    assert_eq!((found, buffer.read(place).unwrap()), (header(2), b"body 2".to_vec()));
    for (place, _) in recovered.waiting {
        buffer.mark_done(place).unwrap();
    }
    drop(buffer);
    let (_buffer, recovered) = open(&directory);
    assert_eq!(names(&recovered), [0_usize; 0]);
    assert_eq!(files(&directory).len(), 0, "what is done leaves nothing");
}

#[test]
fn a_torn_record_costs_itself_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let (mut buffer, _) = open(folder.path());
    for n in 0..3 {
        append(&mut buffer, n, b"0123456789");
    }
    let n_bytes = buffer.n_bytes();
    drop(buffer);
    let file = files(folder.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    assert_eq!(whole.len() as u64, n_bytes);
    let record = (whole.len() - 8) / 3;
    for cut in 1..record {
        fs::write(&file, &whole[..whole.len() - cut]).unwrap();
        let (mut buffer, recovered) = open(folder.path());
        assert_eq!((names(&recovered), recovered.n_torn), (vec![0, 1], 1), "cut by {cut}");
        // What comes next is whole again.
        append(&mut buffer, 9, b"next");
        drop(buffer);
        let (_, recovered) = open(folder.path());
        assert_eq!((names(&recovered), recovered.n_torn), (vec![0, 1, 9], 0), "cut by {cut}");
    }
    for at in 8 + HEADER_BYTES..8 + record {
        let mut wrong = whole.clone();
        wrong[at] ^= 0x40;
        fs::write(&file, &wrong).unwrap();
        let (_, recovered) = open(folder.path());
        assert_eq!((names(&recovered), recovered.n_torn), (vec![1, 2], 1), "wrong at {at}");
    }
    // By a header that is wrong nobody knows where the next one begins.
    for at in 8 + record..8 + record + HEADER_BYTES {
        let mut wrong = whole.clone();
        wrong[at] ^= 0x40;
        fs::write(&file, &wrong).unwrap();
        let (_, recovered) = open(folder.path());
        assert_eq!((names(&recovered), recovered.n_torn), (vec![0], 1), "wrong at {at}");
    }
    // Killed between the body and its header.
    let mut wrong = whole.clone();
    wrong[8 + 2 * record..8 + 2 * record + HEADER_BYTES].fill(0);
    fs::write(&file, &wrong).unwrap();
    let (_, recovered) = open(folder.path());
    assert_eq!((names(&recovered), recovered.n_torn), (vec![0, 1], 1));
    fs::write(&file, b"something else").unwrap();
    let (_, recovered) = open(folder.path());
    assert_eq!((names(&recovered), recovered.n_torn), (vec![], 1));
}

#[test]
fn the_limit_is_kept_and_the_oldest_file_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut buffer, _) = open(folder.path());
    let body = vec![b'x'; 10_000];
    let mut all_dropped = Vec::new();
    for n in 0..200 {
        let (_, dropped) = append(&mut buffer, n, &body);
        all_dropped.extend(dropped);
        assert!(buffer.n_bytes() <= LIMIT);
        let on_disk: u64 =
            files(folder.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert_eq!(on_disk, buffer.n_bytes());
    }
    assert!(all_dropped.is_sorted() && all_dropped[0] == 0, "{all_dropped:?}");
    drop(buffer);
    let (_, recovered) = open(folder.path());
    let names = names(&recovered);
    assert_eq!(names, (200 - names.len()..200).collect::<Vec<_>>());
    assert!(names.len() > 80, "most of the limit is used: {}", names.len());
}

#[test]
fn files_that_are_done_go_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (mut buffer, _) = open(folder.path());
    for n in 0..1000 {
        let (place, dropped) = append(&mut buffer, n, &[b'x'; 10_000]);
        buffer.mark_done(place).unwrap();
        assert_eq!(dropped, [0_u64; 0]);
    }
    assert!(files(folder.path()).len() <= 2);
}

#[test]
fn a_file_that_is_cleared_has_what_was_added_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut segment = Segment::create(folder.path(), 0).unwrap();
    let add = |segment: &mut Segment, n, body: &[u8]| {
        segment.append(&record::write(&header(n), body).unwrap(), body).unwrap()
    };
    let first = add(&mut segment, 1, &[b'x'; 10_000]);
    segment.mark_done(first).unwrap();
    segment.clear().unwrap();
    assert_eq!(add(&mut segment, 2, b"later"), first, "its room is used again");
    assert_eq!((segment.n_waiting, segment.read(first).unwrap()), (1, b"later".to_vec()));
    drop(segment);
    let (_buffer, recovered) = open(folder.path());
    assert_eq!((names(&recovered), recovered.n_torn), (vec![2], 0));
}

#[test]
fn a_folder_is_tried_out_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("by/need");
    let config = BufferConfig { directory: directory.clone(), size_limit: LIMIT };
    let room = |state| match state {
        FolderState::Writable { room } => room,
        FolderState::InUse => panic!("nobody has it"),
    };
    assert!(room(try_out(&config).unwrap()) > 0);
    let (mut buffer, _) = open(&directory);
    append(&mut buffer, 1, b"waits");
    assert_eq!(try_out(&config).unwrap(), FolderState::InUse);
    drop(buffer);
    assert!(room(try_out(&config).unwrap()) > 0);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "the lock and the file");
    let (_, recovered) = open(&directory);
    assert_eq!((names(&recovered), recovered.n_torn), (vec![1], 0));
    let config = BufferConfig { directory: "/proc/podmeter".into(), size_limit: LIMIT };
    let error = try_out(&config).unwrap_err();
    assert!(matches!(error, BufferError::Directory { .. }), "{error}");
}

#[test]
fn a_folder_is_one_process_and_what_cannot_be_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (mut buffer, _) = open(folder.path());
    let config = BufferConfig { directory: folder.path().into(), size_limit: LIMIT };
    assert!(matches!(Buffer::open(&config).unwrap_err(), BufferError::InUse { .. }));
    let large = vec![0; 1 << 20];
    let refused = buffer.append(&header(1), &large, &mut Vec::new()).unwrap_err();
    assert!(matches!(refused, BufferError::TooLarge), "{refused}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let config = BufferConfig { directory: file, size_limit: LIMIT };
    assert!(matches!(Buffer::open(&config).unwrap_err(), BufferError::Directory { .. }));
}
