//! Offsets of kernel fields and prototypes of kernel functions, from the running kernel's own type information.
//!
//! Rust emits no CO-RE relocations, so what a program must know about the kernel's structures is looked up here, in
//! `/sys/kernel/btf/vmlinux`, and handed to it as read-only globals.
//! It refuses bit fields, whose offset a plain read cannot use, and names that are not there: both disable the probe.

use std::{fs, io, path::PathBuf};

use btfparse::{Offset, Struct, Type as _, TypeInformation, TypeVariant};

use crate::paths::HostPaths;

/// The kernel's types.
///
/// Parsing takes a good part of a second and tens of megabytes, so it is dropped once all probes have started.
pub struct KernelTypes {
    info: TypeInformation,
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
    /// The file is not BTF.
    #[error("cannot parse the kernel's type information at {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
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
    #[error(
        "this kernel's {name}.{field} is {found}, where {expected} bytes in a field of its own are needed"
    )]
    FieldShape {
        /// The structure.
        name: &'static str,
        /// The field.
        field: &'static str,
        /// What it is here.
        found: String,
        /// The size that the program reads.
        expected: usize,
    },
    /// This kernel has no such function, or not in its type information.
    #[error("this kernel has no function {name}")]
    NoFunction {
        /// The function.
        name: &'static str,
    },
    /// The function has other parameters than the program takes.
    #[error("this kernel's {name} does not take a pointer to struct {expected} first")]
    Prototype {
        /// The function.
        name: &'static str,
        /// The structure that the program expects behind the first parameter.
        expected: &'static str,
    },
}

impl KernelTypes {
    /// Reads and parses the type information of the running kernel.
    pub fn read(paths: &HostPaths) -> Result<Self, BtfError> {
        let path = paths.sys.join("kernel/btf/vmlinux");
        let bytes = fs::read(&path).map_err(|source| BtfError::Read {
            path: path.clone(),
            source,
        })?;
        let info = TypeInformation::new(&Bytes(bytes)).map_err(|error| BtfError::Parse {
            path,
            reason: error.message().into(),
        })?;
        Ok(Self { info })
    }

    /// The byte offset of a field that is `size` bytes wide; dots in `field` lead into nested structures.
    pub fn offset(
        &self,
        name: &'static str,
        field: &'static str,
        size: usize,
    ) -> Result<u32, BtfError> {
        let (struct_id, _) = self.find_struct(name).ok_or(BtfError::NoStruct { name })?;
        // The only way for the look-up in a structure that is there to fail is that the field is not.
        let Ok((field_id, offset)) = self.info.offset_of(struct_id, field) else {
            return Err(BtfError::NoField { name, field });
        };
        let found_size = self.info.size_of(field_id).unwrap_or_default();
        let shape = |found| BtfError::FieldShape {
            name,
            field,
            found,
            expected: size,
        };
        match offset {
            Offset::ByteOffset(bytes) if found_size == size => Ok(bytes),
            Offset::ByteOffset(_) => Err(shape(format!("{found_size} bytes wide"))),
            Offset::BitOffsetAndSize(_, bits) => Err(shape(format!("a field of {bits} bits"))),
        }
    }

    /// Whether a structure has a field; a kernel without the structure does not.
    #[must_use]
    pub fn has_field(&self, name: &str, field: &str) -> bool {
        self.find_struct(name)
            .is_some_and(|(id, _)| self.info.offset_of(id, field).is_ok())
    }

    /// Checks that the first parameter of a kernel function is a pointer to the structure.
    pub fn check_first_parameter(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<(), BtfError> {
        let types = self.info.get();
        let prototype = types
            .values()
            .find_map(|kind| match kind {
                TypeVariant::Func(func) if func.name().as_deref() == Some(name) => {
                    types.get(&func.header().size_or_type())
                }
                _ => None,
            })
            .ok_or(BtfError::NoFunction { name })?;
        let TypeVariant::FuncProto(prototype) = prototype else {
            return Err(BtfError::NoFunction { name });
        };
        let first = prototype.parameter_list().first();
        let points_at = first.and_then(|parameter| self.info.pointee_tid(parameter.tid()).ok());
        let struct_name = points_at.and_then(|id| self.info.name_of(id));
        if struct_name.as_deref() == Some(expected) {
            Ok(())
        } else {
            Err(BtfError::Prototype { name, expected })
        }
    }

    /// A structure by its name: names of types, functions and variables share one space, so `id_of` would not do.
    fn find_struct(&self, wanted: &str) -> Option<(u32, &Struct)> {
        self.info.get().iter().find_map(|(id, kind)| match kind {
            TypeVariant::Struct(found) if found.name().as_deref() == Some(wanted) => {
                Some((*id, found))
            }
            _ => None,
        })
    }
}

struct Bytes(Vec<u8>);

impl btfparse::Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let Some(bytes) = range.and_then(|range| self.0.get(range)) else {
            return Err(btfparse::Error::new(
                btfparse::ErrorKind::EOF,
                "past the end of the file",
            ));
        };
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}
