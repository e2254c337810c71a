//! Maps of the probe that a test has started, found by their name, for what no workload of a test can bring about.
//!
//! Where several probes have a map of this name, the one that was made last is meant.

use aya::maps::{Array, HashMap, Map, MapData, loaded_maps};
use podmeter_common::block_io::InFlight;

/// Adds to the only word of an array.
pub fn add_to_array(name: &str, n_more: u64) {
    let map = Map::Array(last(name));
    let mut array = Array::<_, u64>::try_from(map).expect("it is an array of words");
    let before = array.get(&0, 0).expect("it has one word");
    array.set(0, before + n_more, 0).expect("user space may write it");
}

/// How many entries a map of requests has.
#[must_use]
pub fn n_entries(name: &str) -> usize {
    let map = Map::HashMap(last(name));
    let map = HashMap::<_, u64, [u8; size_of::<InFlight>()]>::try_from(map)
        .expect("it is a map of requests");
    map.keys().count()
}

fn last(name: &str) -> MapData {
    let maps = loaded_maps().filter_map(Result::ok);
    let found = maps.filter(|map| map.name_as_str() == Some(name)).map(|map| map.id()).max();
    MapData::from_id(found.expect("the probe has it")).expect("root may open it")
}
