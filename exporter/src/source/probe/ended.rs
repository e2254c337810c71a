//! Network namespaces that nobody is left in, whose numbers the kernel gives to the next ones. Pure.

use std::collections::{HashMap, HashSet};

use crate::{
    cgroup::namespaces::NamespaceUse,
    metric::Family,
    subject::{NetworkNamespaceId, Subject},
};

/// Those that had ended by the last collection, which gave their last values and freed their entries in the kernel.
#[derive(Debug, Default)]
pub(super) struct Ended(HashSet<NetworkNamespaceId>);

impl Ended {
    /// Leaves out what has been counted under a number since its namespace ended: it is of the next one that has the number,
    /// whose processes were not seen yet, and waits in the kernel until they are.
    pub(super) fn hold_back(
        &mut self,
        families: &mut [Family],
        uses: &HashMap<NetworkNamespaceId, NamespaceUse>,
    ) {
        let has_ended = |id: &NetworkNamespaceId| uses.get(id) == Some(&NamespaceUse::Ended);
        self.0.retain(has_ended);
        if !self.0.is_empty() {
            let waits =
                |subject| matches!(subject, Subject::NetworkNamespace(id) if self.0.contains(&id));
            for family in families {
                family.samples.retain(|sample| !waits(sample.subject));
            }
        }
        self.0.extend(uses.keys().copied().filter(has_ended));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Ended;
    use crate::{
        cgroup::namespaces::NamespaceUse,
        metric::{Desc, Family, Kind, Sample, Value},
        subject::{CgroupId, NetworkNamespaceId, Subject},
    };

    const DESC: Desc = Desc {
        name: "a_total",
        help: "A.",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        origin: "",
    };

    /// The numbers of the namespaces that are still there.
    fn served(ended: &mut Ended, uses: &[(u64, NamespaceUse)]) -> Vec<Subject> {
        let subjects = [
            Subject::NetworkNamespace(NetworkNamespaceId(7)),
            Subject::NetworkNamespace(NetworkNamespaceId(8)),
            Subject::Cgroup(CgroupId(7)),
        ];
        let sample = |subject| Sample { subject, labels: Vec::new(), value: Value::Number(1.0) };
        let mut families = [Family { desc: &DESC, samples: subjects.map(sample).into() }];
        let uses: HashMap<_, _> =
            uses.iter().map(|(id, used)| (NetworkNamespaceId(*id), *used)).collect();
        ended.hold_back(&mut families, &uses);
        families[0].samples.iter().map(|sample| sample.subject).collect()
    }

    #[test]
    fn what_comes_under_the_number_of_one_that_ended_waits_for_the_next_one() {
        use NamespaceUse::{Ended as Gone, Live};

        let seven = Subject::NetworkNamespace(NetworkNamespaceId(7));
        let others =
            [Subject::NetworkNamespace(NetworkNamespaceId(8)), Subject::Cgroup(CgroupId(7))];
        let all = [seven, others[0], others[1]];
        let mut ended = Ended::default();
        assert_eq!(served(&mut ended, &[(7, Live), (8, Live)]), all);
        assert_eq!(served(&mut ended, &[(7, Gone), (8, Live)]), all, "the last values");
        assert_eq!(served(&mut ended, &[(7, Gone), (8, Live)]), others, "somebody else's");
        assert_eq!(served(&mut ended, &[(7, Live), (8, Live)]), all, "who is known now");
        assert_eq!(served(&mut ended, &[(7, Gone)]), all);
        assert_eq!(served(&mut ended, &[]), all, "nobody remembers who had it before");
    }
}
