//! Offsets of kernel fields and prototypes of kernel functions, from the running kernel's own type information.
//!
//! Rust emits no CO-RE relocations, so what a program must know about the kernel's structures is looked up here, in
//! `/sys/kernel/btf/vmlinux`, and handed to it as read-only globals.
//! It refuses bit fields, whose offset a plain read cannot use, and names that are not there: both disable the probe.

mod raw;

use std::{fs, io, path::PathBuf};

pub use self::raw::Malformed;
use self::raw::{Btf, Kind, Place, TypeId};
use crate::paths::HostPaths;

/// The kernel's types.
pub struct KernelTypes {
    btf: Btf,
}

/// Why the kernel's types do not give what a probe needs.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error(
        "cannot read the kernel's type information at {path} (the kernel needs CONFIG_DEBUG_INFO_BTF=y)"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not BTF as it is known.
    #[error("cannot parse the kernel's type information at {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Malformed,
    },
    /// This kernel has no such structure.
    #[error("this kernel has no struct {name}")]
    NoStruct {
        /// The structure.
        name: &'static str,
    },
    /// This kernel's structure has no such field.
    #[error("this kernel's struct {name} has no field {field}")]
    NoField {
        /// The structure.
        name: &'static str,
        /// The field, with dots for nested ones.
        field: &'static str,
    },
    /// The field exists but is not what the program reads.
    #[error("this kernel's {name}.{field} is {found}, where a field of {expected} bytes is needed")]
    FieldShape {
        /// The structure.
        name: &'static str,
        /// The field.
        field: &'static str,
        /// What it is here.
        found: String,
        /// The size that the program reads.
        expected: u32,
    },
    /// This kernel has no such function, or not in its type information.
    #[error("this kernel has no function {name}")]
    NoFunction {
        /// The function.
        name: &'static str,
    },
    /// The function or tracepoint has other parameters than the program takes.
    #[error("this kernel's {name} takes no pointer to struct {expected} where one is needed")]
    Prototype {
        /// The function or tracepoint.
        name: &'static str,
        /// The structure that the program expects behind one of the parameters.
        expected: &'static str,
    },
    /// This kernel has no such tracepoint, or not in its type information.
    #[error("this kernel has no tracepoint {name}")]
    NoTracepoint {
        /// The tracepoint.
        name: &'static str,
    },
    /// This kernel's enumeration has no such name.
    #[error("this kernel has no {name} in enum {of}")]
    NoEnumerator {
        /// The enumeration.
        of: &'static str,
        /// The name.
        name: &'static str,
    },
}

impl KernelTypes {
    /// Reads the type information of the running kernel.
    pub fn read(paths: &HostPaths) -> Result<Self, BtfError> {
        let path = paths.sys.join("kernel/btf/vmlinux");
        let bytes =
            fs::read(&path).map_err(|source| BtfError::Read { path: path.clone(), source })?;
        Self::parse(bytes).map_err(|source| BtfError::Parse { path, source })
    }

    /// Takes type information as the kernel gives it; pure.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        Ok(Self { btf: Btf::parse(bytes)? })
    }

    /// The byte offset of a field that is `size` bytes wide; dots in `field` lead into nested structures.
    pub fn offset(
        &self,
        name: &'static str,
        field: &'static str,
        size: u32,
    ) -> Result<u32, BtfError> {
        let id = self.find_struct(name).ok_or(BtfError::NoStruct { name })?;
        let found = self.find_field(id, field).ok_or(BtfError::NoField { name, field })?;
        let shape = |found| BtfError::FieldShape { name, field, found, expected: size };
        match found.place {
            Place::Bits { size, .. } => Err(shape(format!("a field of {size} bits"))),
            Place::Byte(offset) => match self.btf.size_of(found.kind) {
                Some(found) if found == size => Ok(offset),
                Some(found) => Err(shape(format!("{found} bytes wide"))),
                None => Err(shape("of no known size".into())),
            },
        }
    }

    /// Whether a structure has a field; a kernel without the structure does not.
    #[must_use]
    pub fn has_field(&self, name: &str, field: &str) -> bool {
        self.find_struct(name).is_some_and(|id| self.find_field(id, field).is_some())
    }

    /// The byte offset of the first of several fields that this kernel has: what one version called otherwise.
    pub fn offset_of_any(
        &self,
        name: &'static str,
        fields: &[&'static str],
        size: u32,
    ) -> Result<u32, BtfError> {
        let known = fields.iter().find(|field| self.has_field(name, field));
        let field = known.or(fields.first()).copied().unwrap_or_default();
        self.offset(name, field, size)
    }

    /// Checks that the first parameter of a kernel function is a pointer to the structure.
    pub fn check_first_parameter(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<(), BtfError> {
        let function = self.btf.find(Kind::FUNC, name).ok_or(BtfError::NoFunction { name })?;
        let first = self.btf.parameters(function).and_then(|types| types.first().copied());
        if first.is_some_and(|id| self.is_pointer_to(id, expected)) {
            Ok(())
        } else {
            Err(BtfError::Prototype { name, expected })
        }
    }

    /// Which argument of a tracepoint is a pointer to the structure, as a raw tracepoint program counts them.
    ///
    /// The kernel keeps a typedef `btf_trace_<name>` of a function whose first parameter, for the kernel's own use, no
    /// program sees.
    pub fn tracepoint_argument(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<u32, BtfError> {
        let found = self.tracepoint_positions(name, expected)?;
        found.first().copied().ok_or(BtfError::Prototype { name, expected })
    }

    /// Which arguments of a tracepoint are pointers to the structure; none if it takes no such thing.
    pub fn tracepoint_positions(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Vec<u32>, BtfError> {
        let arguments = (0..).zip(self.tracepoint_arguments(name)?);
        let found = arguments.filter(|(_, id)| self.is_pointer_to(*id, expected));
        Ok(found.map(|(idx, _)| idx).collect())
    }

    /// Checks that the first arguments of a tracepoint are pointers to these structures.
    pub fn check_tracepoint(
        &self,
        name: &'static str,
        expected: &[&'static str],
    ) -> Result<(), BtfError> {
        let mut found = self.tracepoint_arguments(name)?.into_iter();
        let mut is_next =
            |expected: &str| found.next().is_some_and(|id| self.is_pointer_to(id, expected));
        match expected.iter().copied().find(|expected| !is_next(expected)) {
            Some(expected) => Err(BtfError::Prototype { name, expected }),
            None => Ok(()),
        }
    }

    /// How many arguments a tracepoint gives to a raw tracepoint program.
    pub fn n_tracepoint_arguments(&self, name: &'static str) -> Result<u32, BtfError> {
        let n_arguments = self.tracepoint_arguments(name)?.len();
        // A tracepoint has a dozen at the most.
        Ok(u32::try_from(n_arguments).unwrap_or(u32::MAX))
    }

    fn tracepoint_arguments(&self, name: &'static str) -> Result<Vec<TypeId>, BtfError> {
        let typedef = self.btf.find(Kind::TYPEDEF, &format!("btf_trace_{name}"));
        let parameters = typedef.and_then(|id| self.btf.callback_parameters(id));
        let parameters = parameters.ok_or(BtfError::NoTracepoint { name })?;
        Ok(parameters.into_iter().skip(1).collect())
    }

    fn is_pointer_to(&self, id: TypeId, name: &str) -> bool {
        self.btf
            .pointee(id)
            .is_some_and(|id| self.btf.kind(id) == Some(Kind::STRUCT) && self.btf.name_is(id, name))
    }

    /// The value of a name in an enumeration.
    pub fn enumerator(&self, of: &'static str, name: &'static str) -> Result<u32, BtfError> {
        let found = self.enumerators(of).into_iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value).ok_or(BtfError::NoEnumerator { of, name })
    }

    /// All names and values of an enumeration; empty if this kernel has none of that name.
    #[must_use]
    pub fn enumerators(&self, of: &str) -> Vec<(&str, u32)> {
        let id = self.btf.find(Kind::ENUM, of);
        id.and_then(|id| self.btf.enumerators(id)).unwrap_or_default()
    }

    fn find_struct(&self, name: &str) -> Option<TypeId> {
        self.btf.find(Kind::STRUCT, name)
    }

    /// Follows the path from structure to structure, adding up the offsets.
    fn find_field(&self, id: TypeId, path: &str) -> Option<Field> {
        let mut field = Field { kind: id, place: Place::Byte(0) };
        for name in path.split('.') {
            let member = self.btf.member(field.kind, name)?;
            field = Field { kind: member.kind, place: field.place.then(member.place)? };
        }
        Some(field)
    }
}

/// A field of a structure.
struct Field {
    kind: TypeId,
    place: Place,
}

#[cfg(test)]
mod tests;
