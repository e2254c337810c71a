//! The kernel's type information, which a reader of Podmeter's own looks things up in; what programs are loaded with is
//! compiled in, so that aya reads nothing from outside.

use podmeter::source::probe::btf::{BtfError, KernelTypes, Malformed};

/// As the inputs of the corpus have them, which the unit tests of the reader have made.
const STRUCTS: &[&str] = &["rq", "inner", "endless"];
const FIELDS: &[&str] = &["lock", "clock", "low", "in", "in.a", "in.b", "flag", "none"];
const FUNCTIONS: &[&str] = &["tick", "rq"];
const TRACEPOINTS: &[&str] = &["done", "none"];
const ENUMS: &[&str] = &["fruit"];

/// The last kind that there is: `BTF_KIND_ENUM64`.
const LAST_KIND: u32 = 19;

pub(crate) fn check(input: &[u8]) {
    let types = match KernelTypes::parse(input.to_vec()) {
        Ok(types) => types,
        // No whole word is there, be it that the file ends before.
        Err(Malformed::CutOff { at }) => {
            return assert!(at.saturating_add(4) > input.len(), "{at}");
        }
        Err(Malformed::UnknownKind { at, kind }) => {
            assert!(at < input.len() && !(1..=LAST_KIND).contains(&kind), "{kind} at {at}");
            return;
        }
        Err(Malformed::Magic) => return assert!(!input.starts_with(&0xeb9f_u16.to_ne_bytes())),
    };
    for name in STRUCTS {
        FIELDS.iter().for_each(|field| check_field(&types, name, field));
        FUNCTIONS.iter().for_each(|function| {
            let checked = types.check_first_parameter(function, name);
            assert!(matches!(
                checked,
                Ok(()) | Err(BtfError::NoFunction { .. } | BtfError::Prototype { .. })
            ));
        });
        TRACEPOINTS.iter().for_each(|tracepoint| check_tracepoint(&types, tracepoint, name));
    }
    for of in ENUMS {
        let all = types.enumerators(of);
        for name in ["APPLE", "PEAR"] {
            let first = all.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            assert_eq!(types.enumerator(of, name).ok(), first, "{name}");
        }
    }
}

/// A field has one size at most, and one place.
fn check_field(types: &KernelTypes, name: &'static str, field: &'static str) {
    let found: Vec<_> = [4, 8]
        .into_iter()
        .filter_map(|size| types.offset(name, field, size).ok().map(|offset| (size, offset)))
        .collect();
    assert!(found.len() <= 1, "{name}.{field}: {found:?}");
    let has_field = types.has_field(name, field);
    assert!(has_field || found.is_empty(), "{name}.{field} is not there, at {found:?}");
    if let [(size, offset)] = found.as_slice() {
        assert_eq!(types.offset_of_any(name, &[field], *size).ok(), Some(*offset));
    }
}

/// All ways of asking for the arguments of a tracepoint agree.
fn check_tracepoint(types: &KernelTypes, tracepoint: &'static str, name: &'static str) {
    let Ok(n_arguments) = types.n_tracepoint_arguments(tracepoint) else {
        assert!(types.tracepoint_positions(tracepoint, name).is_err());
        return;
    };
    let positions = types.tracepoint_positions(tracepoint, name).expect("it is there");
    assert!(positions.is_sorted() && positions.iter().all(|position| *position < n_arguments));
    let first = types.tracepoint_argument(tracepoint, name).ok();
    assert_eq!(first, positions.first().copied());
    let is_first = types.check_tracepoint(tracepoint, &[name]).is_ok();
    assert_eq!(is_first, first == Some(0));
}
