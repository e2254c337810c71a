//! What waits to be sent: requests that are ready, in memory or on disk, within bounds, in an order that keeps each series' own.
//! Pure.
//!
//! A series goes by one lane, and a lane has one request under way at a time. How many lanes there are can change: then
//! a new generation begins, and none of its requests is taken before all of the older one are through.

use std::collections::VecDeque;

use bytes::Bytes;

use super::buffer::{Header, Place};

/// Most bytes that wait in memory, whatever the number of samples.
pub(super) const MAX_MEMORY_BYTES: usize = 32 << 20;

/// A request that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Where in the order of all requests it is.
    pub(super) number: u64,
    pub(super) header: Header,
    pub(super) body: Body,
}

/// The compressed message of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// It is here.
    Memory(Bytes),
    /// It lies on disk.
    Disk(Place),
}

/// All requests that wait.
#[derive(Debug)]
pub(super) struct Queue {
    /// At least one.
    generations: VecDeque<Generation>,
    capacity: usize,
    next_number: u64,
    waiting: Load,
    in_flight: Load,
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    samples: usize,
    samples_in_memory: usize,
    bytes_in_memory: usize,
}

#[derive(Debug)]
struct Generation {
    lanes: Vec<VecDeque<Batch>>,
    n_in_flight: usize,
}

impl Load {
    fn add(&mut self, batch: &Batch) {
        self.samples += batch.header.n_samples;
        if let Body::Memory(body) = &batch.body {
            self.samples_in_memory += batch.header.n_samples;
            self.bytes_in_memory += body.len();
        }
    }

    fn remove(&mut self, batch: &Batch) {
        self.samples -= batch.header.n_samples;
        if let Body::Memory(body) = &batch.body {
            self.samples_in_memory -= batch.header.n_samples;
            self.bytes_in_memory -= body.len();
        }
    }
}

impl Generation {
    fn new(n_lanes: usize) -> Self {
        Self { lanes: vec![VecDeque::new(); n_lanes.max(1)], n_in_flight: 0 }
    }

    fn is_done(&self) -> bool {
        self.n_in_flight == 0 && self.lanes.iter().all(VecDeque::is_empty)
    }
}

impl Queue {
    /// An empty one, for so many samples in memory.
    pub(super) fn new(capacity: usize, n_lanes: usize) -> Self {
        Self {
            generations: VecDeque::from([Generation::new(n_lanes)]),
            capacity,
            next_number: 0,
            waiting: Load::default(),
            in_flight: Load::default(),
        }
    }

    /// How many lanes what comes next is spread over.
    pub(super) fn n_lanes(&self) -> usize {
        self.generations.back().map_or(1, |last| last.lanes.len())
    }

    /// From now on there are so many.
    pub(super) fn set_lanes(&mut self, n_lanes: usize) {
        if n_lanes != self.n_lanes() {
            self.generations.push_back(Generation::new(n_lanes));
            self.advance();
        }
    }

    /// Adds a request of that lane; gives what has no room in memory any more, the oldest.
    pub(super) fn push(&mut self, lane: usize, header: Header, body: Body) -> Vec<Batch> {
        let batch = Batch { number: self.next_number, header, body };
        self.next_number += 1;
        if let Some(lane) = self.generations.back_mut().and_then(|last| last.lanes.get_mut(lane)) {
            self.waiting.add(&batch);
            lane.push_back(batch);
        }
        let mut evicted = Vec::new();
        while self.waiting.samples_in_memory > self.capacity
            || self.waiting.bytes_in_memory > MAX_MEMORY_BYTES
        {
            let Some(oldest) = self.take_oldest_in_memory() else { break };
            evicted.push(oldest);
        }
        evicted
    }

    /// The next request of a lane, which is under way from now on.
    pub(super) fn take(&mut self, lane: usize) -> Option<Batch> {
        let first = self.generations.front_mut()?;
        let batch = first.lanes.get_mut(lane)?.pop_front()?;
        first.n_in_flight += 1;
        self.waiting.remove(&batch);
        self.in_flight.add(&batch);
        Some(batch)
    }

    /// A request is under way no more.
    pub(super) fn done(&mut self, batch: &Batch) {
        self.in_flight.remove(batch);
        if let Some(first) = self.generations.front_mut() {
            first.n_in_flight = first.n_in_flight.saturating_sub(1);
        }
        self.advance();
    }

    /// Takes the requests away that wait in a file; gives how many samples they had.
    pub(super) fn drop_segment(&mut self, segment: u64) -> usize {
        let n_before = self.waiting.samples;
        let waiting = &mut self.waiting;
        let lanes = self.generations.iter_mut().flat_map(|generation| &mut generation.lanes);
        for lane in lanes {
            lane.retain(|batch| match batch.body {
                Body::Disk(place) if place.segment == segment => {
                    waiting.remove(batch);
                    false
                }
                Body::Disk(_) | Body::Memory(_) => true,
            });
        }
        self.advance();
        n_before - self.waiting.samples
    }

    /// Samples that wait or are under way.
    pub(super) fn n_pending(&self) -> usize {
        self.waiting.samples + self.in_flight.samples
    }

    /// Those of them that are in memory alone.
    pub(super) fn n_pending_in_memory(&self) -> usize {
        self.waiting.samples_in_memory + self.in_flight.samples_in_memory
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.generations.iter().all(Generation::is_done)
    }

    /// Bytes that wait in memory.
    pub(super) fn n_bytes(&self) -> usize {
        self.waiting.bytes_in_memory
    }

    fn take_oldest_in_memory(&mut self) -> Option<Batch> {
        let is_in_memory = |batch: &Batch| matches!(batch.body, Body::Memory(_));
        let lanes = self.generations.iter_mut().flat_map(|generation| &mut generation.lanes);
        let oldest = lanes.filter_map(|lane| {
            let at = lane.iter().position(is_in_memory)?;
            Some((lane.get(at)?.number, at, lane))
        });
        let (_, at, lane) = oldest.min_by_key(|(number, ..)| *number)?;
        let oldest = lane.remove(at)?;
        self.waiting.remove(&oldest);
        self.advance();
        Some(oldest)
    }

    /// Leaves generations that are through.
    fn advance(&mut self) {
        while self.generations.len() > 1
            && self.generations.front().is_some_and(Generation::is_done)
        {
            self.generations.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Body, MAX_MEMORY_BYTES, Queue};
    use crate::{
        config::remote_write::MessageKind,
        remote_write::buffer::{Header, Place},
    };

    fn header(n_samples: usize) -> Header {
        Header { kind: MessageKind::Request, n_samples, newest: 0 }
    }

    fn push_body(queue: &mut Queue, lane: usize, n_samples: usize, body: Body) -> Vec<u64> {
        let evicted = queue.push(lane, header(n_samples), body);
        evicted.into_iter().map(|batch| batch.number).collect()
    }

    fn push(queue: &mut Queue, lane: usize, n_samples: usize) -> Vec<u64> {
        push_body(queue, lane, n_samples, Body::Memory(Bytes::from_static(b"abc")))
    }

    fn take(queue: &mut Queue, lane: usize) -> Option<u64> {
        queue.take(lane).map(|batch| batch.number)
    }

    #[test]
    fn a_lane_keeps_its_order() {
        let mut queue = Queue::new(100, 2);
        for lane in [0, 1, 0] {
            assert!(push(&mut queue, lane, 1).is_empty());
        }
        assert_eq!(take(&mut queue, 0), Some(0));
        assert_eq!(take(&mut queue, 1), Some(1));
        assert_eq!(take(&mut queue, 1), None);
        assert_eq!(take(&mut queue, 0), Some(2));
        assert_eq!((queue.n_pending(), queue.n_bytes()), (3, 0));
    }

    #[test]
    fn the_oldest_makes_room_and_what_is_under_way_stays() {
        let mut queue = Queue::new(5, 2);
        push(&mut queue, 0, 3);
        let first = queue.take(0).unwrap();
        push(&mut queue, 1, 2);
        push(&mut queue, 0, 3);
        assert_eq!(push(&mut queue, 1, 2), [1]);
        assert_eq!(queue.n_pending(), 3 + 5);
        queue.done(&first);
        assert_eq!(queue.n_pending(), 5);
        let large = Bytes::from(vec![0; MAX_MEMORY_BYTES]);
        let mut queue = Queue::new(5, 2);
        assert!(push_body(&mut queue, 0, 1, Body::Memory(large.clone())).is_empty());
        assert_eq!(push_body(&mut queue, 1, 1, Body::Memory(large)), [0], "bytes are bounded, too");
    }

    #[test]
    fn what_lies_on_disk_takes_no_room_and_goes_with_its_file() {
        let mut queue = Queue::new(5, 1);
        for segment in [0, 0, 1] {
            let body = Body::Disk(Place { segment, offset: 8 });
            assert!(push_body(&mut queue, 0, 4, body).is_empty());
        }
        push(&mut queue, 0, 3);
        assert_eq!(push(&mut queue, 0, 3), [3]);
        assert_eq!((queue.n_pending(), queue.n_pending_in_memory()), (15, 3));
        assert_eq!(take(&mut queue, 0), Some(0));
        assert_eq!(queue.drop_segment(0), 4, "one of the two is under way");
        assert_eq!((take(&mut queue, 0), take(&mut queue, 0)), (Some(2), Some(4)));
    }

    #[test]
    fn other_lanes_wait_until_the_older_ones_are_through() {
        let mut queue = Queue::new(100, 1);
        push(&mut queue, 0, 1);
        push(&mut queue, 0, 1);
        queue.set_lanes(2);
        push(&mut queue, 1, 1);
        assert_eq!(take(&mut queue, 1), None);
        let first = queue.take(0).unwrap();
        queue.done(&first);
        let second = queue.take(0).unwrap();
        assert_eq!(take(&mut queue, 1), None, "one is under way");
        queue.done(&second);
        let third = queue.take(1).unwrap();
        assert_eq!((third.number, queue.n_lanes(), queue.is_empty()), (2, 2, false));
        queue.done(&third);
        assert!(queue.is_empty());
    }
}
