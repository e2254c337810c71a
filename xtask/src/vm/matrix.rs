//! Which guests are booted: kernels, and how they are set up.

use super::kernel;

/// Which cgroup hierarchies a guest mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// How a guest is set up, and what it is for.
#[derive(Debug)]
pub(crate) struct Variant {
    /// What tests find in `PODMETER_VM_VARIANT`.
    pub(crate) name: &'static str,
    pub(crate) cgroup: Cgroup,
    /// What is added to the kernel's command line.
    pub(crate) parameters: &'static str,
    /// It runs the tests whose names contain this.
    pub(crate) filter: &'static str,
    /// Programs of the host that only these tests need.
    pub(crate) programs: &'static [&'static str],
    /// Folders of the repository that they read; in the guest they are where they are on the host.
    pub(crate) folders: &'static [&'static str],
}

const V2: Variant = Variant {
    name: "v2",
    cgroup: Cgroup::V2,
    parameters: "",
    filter: "kernel::",
    programs: &[],
    folders: &[],
};
const V1: Variant = Variant { name: "v1", cgroup: Cgroup::V1, ..V2 };
const LOCKDOWN: Variant = Variant {
    name: "lockdown",
    parameters: "lockdown=confidentiality",
    filter: "kernel::lockdown",
    ..V2
};

/// The soak on cgroup v2, wherever this machine stands; only when it is asked for.
const SOAK: Variant = Variant {
    name: "soak",
    filter: "soak::the_whole",
    programs: &["bash", "dd"],
    folders: &["tests/fixtures/v1.34.9/pages"],
    ..V2
};

/// What is rare is tested on one kernel.
const RARE: &[Variant] = &[V1, LOCKDOWN];
const KERNEL_OF_THE_RARE: &str = "6.12";

/// One boot.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// A version prefix.
    pub(crate) kernel: String,
    pub(crate) variant: &'static Variant,
}

/// The variant of that name.
pub(crate) fn variant(name: &str) -> Result<&'static Variant, String> {
    let all: Vec<&Variant> = [&V2].into_iter().chain(RARE).chain([&SOAK]).collect();
    let found = all.iter().find(|variant| variant.name == name).copied();
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|variant| variant.name).collect();
        format!("there is: {}", names.join(", "))
    })
}

/// The guests for what was asked for; with nothing given, the whole matrix.
pub(crate) fn guests(kernels: &[String], variant: Option<&'static Variant>) -> Vec<Guest> {
    let default: Vec<String> = kernel::DEFAULT.iter().map(|&prefix| prefix.into()).collect();
    let chosen = if kernels.is_empty() { &default } else { kernels };
    let guest = |kernel: &String, variant| Guest { kernel: kernel.clone(), variant };
    let mut guests: Vec<Guest> =
        chosen.iter().map(|kernel| guest(kernel, variant.unwrap_or(&V2))).collect();
    if kernels.is_empty() && variant.is_none() {
        guests.extend(RARE.iter().map(|variant| guest(&KERNEL_OF_THE_RARE.into(), variant)));
    }
    guests
}

#[cfg(test)]
mod tests {
    use super::{Variant, guests, variant};

    #[test]
    fn the_rare_variants_come_with_the_whole_matrix_only() {
        let check = |kernels: &[&str], variant: Option<&'static Variant>, expected: &[&str]| {
            let kernels: Vec<String> = kernels.iter().map(|&kernel| kernel.into()).collect();
            let guests = guests(&kernels, variant);
            let names: Vec<String> = guests
                .iter()
                .map(|guest| format!("{} {}", guest.kernel, guest.variant.name))
                .collect();
            assert_eq!(names, expected);
        };
        let of_v2 = ["5.10 v2", "6.1 v2", "6.12 v2", "6.18 v2", "7.3 v2"];
        check(&[], None, &[of_v2.as_slice(), &["6.12 v1", "6.12 lockdown"]].concat());
        check(&["6.16"], None, &["6.16 v2"]);
        check(&["6.1"], variant("v1").ok(), &["6.1 v1"]);
        assert_eq!(guests(&[], variant("lockdown").ok()).len(), of_v2.len());
        assert_eq!(variant("v3").unwrap_err(), "there is: v2, v1, lockdown, soak");
    }
}
