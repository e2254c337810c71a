//! The rules as a user writes them, against what Prometheus 3.5 makes of the same.

use super::{LabelSet, Rules, Verdict, rule::RuleConfig};

fn rules(yaml: &str) -> Result<Rules, String> {
    let configs: Vec<RuleConfig> = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
    Rules::new(&configs).map_err(|error| crate::error_chain::one_line(&error))
}

/// `labels` and `expected` are `name=value` between spaces; `-` is a dropped series.
fn check(yaml: &str, labels: &str, expected: &str) {
    let rules = rules(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    let pairs = labels.split(' ').filter_map(|pair| pair.split_once('='));
    let mut set = LabelSet::new(pairs);
    let mut explained = set.clone();
    let outcome = match rules.apply(&mut set) {
        Verdict::Dropped { .. } => "-".to_owned(),
        Verdict::Kept => {
            let sorted = set.sorted().into_iter();
            sorted.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        }
    };
    assert_eq!(outcome, expected, "{yaml}");
    let steps = rules.explain(&mut explained);
    assert_eq!(steps.iter().all(|step| step.is_kept), outcome != "-");
    assert_eq!(explained, set);
}

#[test]
fn replace_sets_removes_and_leaves_alone() {
    let abc = "a=foo b=bar c=baz";
    check(
        "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
        abc,
        "a=foo b=bar c=baz d=choo-choo",
    );
    check(
        "[{source_labels: [a, b], regex: 'f(.*);(.*)r', target_label: a, replacement: 'b${1}${2}m'},
          {source_labels: [c, a], regex: '(b).*b(.*)ba(.*)', target_label: d, replacement: $1$2$2$3}]",
        abc,
        "a=boobam b=bar c=baz d=boooom",
    );
    // No match, no change; not even with a constant replacement.
    check("[{source_labels: [a], regex: f, target_label: b, replacement: x}]", "a=boo", "a=boo");
    check("[{source_labels: [a], regex: 'x(.*)', target_label: b}]", "a=xyz", "a=xyz b=yz");
    // Empty results remove the target.
    check("[{source_labels: [none], target_label: a}]", "a=1 b=2", "b=2");
    check("[{target_label: a, replacement: ''}]", "a=1 b=2", "b=2");
    check("[{target_label: region, replacement: north}]", "a=1", "a=1 region=north");
    check(
        "[{source_labels: [a], separator: '', target_label: b, replacement: '$1$1'}]",
        "a=1",
        "a=1 b=11",
    );
    check(
        "[{source_labels: [a, b, c], separator: '', target_label: d}]",
        abc,
        "a=foo b=bar c=baz d=foobarbaz",
    );
    // A metric's name is a label.
    check(
        "[{source_labels: [__name__], regex: 'container_(.*)', target_label: __name__, replacement: 'c_$1'}]",
        "__name__=container_x a=1",
        "__name__=c_x a=1",
    );
}

#[test]
fn the_target_may_come_from_the_match() {
    let some = "a=some-name-value";
    check(
        "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${2}'}]",
        some,
        "a=some-name-value name=value",
    );
    check(
        "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${1}', replacement: '${3}'}]",
        some,
        some,
    );
    // What is no name is not set.
    check(
        "[{source_labels: [a], regex: 'some-([^-]+)-([^,]+)', target_label: '${3}', replacement: '${1}'}]",
        some,
        some,
    );
    check("[{source_labels: [a], target_label: '${1}', replacement: x}]", "a=0", "a=0");
    check(
        "[{source_labels: [t], regex: '(?:.+,|^)label:([^=]+)=([^,]+).*', target_label: '${1}', replacement: '${2}'}]",
        "t=path:/secret,job:some-job,label:foo=bar",
        "foo=bar t=path:/secret,job:some-job,label:foo=bar",
    );
}

#[test]
fn keep_and_drop_match_whole_values() {
    check("[{source_labels: [a], regex: '.*o.*', action: drop}]", "a=foo", "-");
    check("[{source_labels: [a], regex: 'f|o', action: drop}]", "a=foo", "a=foo");
    check("[{source_labels: [a], regex: 'f.*', action: keep}]", "a=foo", "a=foo");
    check("[{source_labels: [a], regex: 'no-match', action: keep}]", "a=foo", "-");
    check("[{source_labels: [nobody], regex: '', action: drop}]", "a=foo", "-");
    check("[{source_labels: [a], regex: '\\d+', action: keep}]", "a=1२9", "-");
    check("[{source_labels: [id, pod], regex: '.+;', action: Drop}]", "id=/system.slice a=1", "-");
}

#[test]
fn equal_compares_with_the_target() {
    let ports = "__port1=1234 __port2=5678 __tmp_port=1234";
    for (action, target, expected) in [
        ("keepequal", "__port1", ports),
        ("dropequal", "__port1", "-"),
        ("dropequal", "__port2", ports),
        ("keepequal", "__port2", "-"),
    ] {
        let yaml =
            format!("[{{source_labels: [__tmp_port], action: {action}, target_label: {target}}}]");
        check(&yaml, ports, expected);
    }
}

#[test]
fn hashmod_is_the_end_of_md5() {
    check(
        "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
        "c=baz",
        "c=baz d=976",
    );
    check(
        "[{source_labels: [a], target_label: b, action: hashmod, modulus: 1000}]",
        "a=foo\nbar",
        "a=foo\nbar b=734",
    );
}

#[test]
fn names_are_mapped_dropped_and_kept() {
    check(
        "[{regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}]",
        "a=foo b1=bar b2=baz",
        "a=foo b1=bar b2=baz bar_b1=bar bar_b2=baz",
    );
    check(
        "[{regex: '__meta_(my.*)', action: labelmap}]",
        "__meta_my_b=1 __meta_o=2",
        "__meta_my_b=1 __meta_o=2 my_b=1",
    );
    // Two that become one: the later by name wins.
    check("[{regex: '(x).*', action: labelmap}]", "x1=a x2=b", "x=b x1=a x2=b");
    check("[{regex: '(b.*)', action: labelkeep}]", "a=foo b1=bar b2=baz", "b1=bar b2=baz");
    check("[{regex: '(b.*)', action: labeldrop}]", "a=foo b1=bar b2=baz", "a=foo");
    // From https://github.com/prometheus/prometheus/issues/12283
    check(
        "[{regex: '^port_name$', action: labeldrop},
          {source_labels: [annotation], regex: '(.+)', replacement: metrics, target_label: port_name},
          {source_labels: [port_name], regex: '^metrics$', action: keep}]",
        "annotation=9091 port_name=foo",
        "annotation=9091 port_name=metrics",
    );
}

#[test]
fn case_is_mapped_by_the_character() {
    check(
        "[{source_labels: [a], action: uppercase, target_label: u}, {source_labels: [a], action: lowercase, target_label: l}]",
        "a=bAr123Foo",
        "a=bAr123Foo l=bar123foo u=BAR123FOO",
    );
    check("[{source_labels: [a], action: uppercase, target_label: a}]", "a=straße", "a=STRAßE");
    check("[{source_labels: [a], action: lowercase, target_label: a}]", "a=ΣΑΣİ", "a=σασi");
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_in_prometheus_words() {
    let check = |rule: &str, expected: &str| {
        let error = rules(&format!("[{rule}]")).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{rule}: {error}");
    };
    check("{action: tag}", "unknown relabel action \"tag\"");
    check("{}", "rule 1: relabel configuration for replace action requires 'target_label' value");
    check("{action: lowercase}", "requires 'target_label' value");
    check("{action: lowercase, target_label: '${3}'}", "\"${3}\" is invalid 'target_label'");
    check("{target_label: '0${3}'}", "\"0${3}\" is invalid 'target_label' for replace action");
    check("{target_label: '-${3}'}", "\"-${3}\" is invalid 'target_label' for replace action");
    check("{target_label: a, action: hashmod}", "requires non-zero modulus");
    check("{target_label: a, action: uppercase, replacement: x}", "'replacement' can not be set");
    check(
        "{action: labelmap, replacement: '-$1'}",
        "\"-$1\" is invalid 'replacement' for labelmap",
    );
    check("{action: keepequal, target_label: a, regex: x}", "keepequal action requires only");
    check("{action: labeldrop, source_labels: [a]}", "labeldrop action requires only 'regex'");
    check("{action: keep, source_labels: [a-b]}", "\"a-b\" is not a valid label name");
    check("{action: keep, regex: 'a('}", "unclosed group");
    check("{action: keep, regex: 'x[a'}", "missing closing ] at byte 1 of the regular expression");
    check("{action: keep, regexp: a}", "unknown field");
}

#[test]
fn which_targets_can_become_names() {
    for (template, is_valid) in [
        ("-label", false),
        ("label", true),
        ("label${1}", true),
        ("${1}label", true),
        ("${1}", true),
        ("${", false),
        ("$", false),
        ("${}", false),
        ("foo${", false),
        ("$1", true),
        ("asd$2asd", true),
        ("-foo${1}bar-", false),
        ("_${1}_", true),
        ("foo${bar}foo", true),
        ("0a", false),
    ] {
        let outcome = rules(&format!("[{{target_label: '{template}'}}]"));
        assert_eq!(outcome.is_ok(), is_valid, "{template}");
    }
}

proptest::proptest! {
    #[test]
    fn no_rules_change_nothing_and_no_name_stands_twice(
        labels in proptest::collection::vec(("[a-c]{1,2}", "[a-z]{0,2}"), 0..6),
        pattern in "[a-c.*]{1,3}",
    ) {
        let set = LabelSet::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut unchanged = set.clone();
        proptest::prop_assert_eq!(Rules::default().apply(&mut unchanged), Verdict::Kept);
        proptest::prop_assert_eq!(&unchanged, &set);
        let yaml = format!("[{{regex: '({pattern})', replacement: 'a', action: labelmap}}]");
        if let Ok(rules) = rules(&yaml) {
            let mut mapped = set;
            rules.apply(&mut mapped);
            let sorted = mapped.sorted();
            proptest::prop_assert!(sorted.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
