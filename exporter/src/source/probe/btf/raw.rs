//! The BTF format (elixir.bootlin.com/linux/v6.18/source/include/uapi/linux/btf.h), read in place.
//!
//! Nothing is copied but one `u32` per type: the file's 5 MB hold 130,000 types, and a parser that makes an object of
//! each needs tens of megabytes at start, in a container whose limit is meant for a few
//! (docs/decisions/0003-btf-reader.md).
//! Never panics on any input: a place that is not there gives `None`. Pure.

/// A BTF file and where its types are.
#[derive(Debug)]
pub(super) struct Btf {
    bytes: Vec<u8>,
    /// Where each type begins; the type with id 1 is the first.
    types: Vec<u32>,
    strings: usize,
}

/// Why bytes are not BTF as it is known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not BTF, or of the other byte order.
    #[error("it does not begin with BTF's magic number in this machine's byte order")]
    Magic,
    /// It ends too soon.
    #[error("it is cut off at byte {at}")]
    CutOff {
        /// Where more was expected.
        at: usize,
    },
    /// A kind that was added to the format after this was written.
    #[error(
        "the type at byte {at} is of kind {kind}, which this version of Podmeter does not know"
    )]
    UnknownKind {
        /// Where.
        at: usize,
        /// Which.
        kind: u32,
    },
}

/// The number of a type; 0 is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeId(u32);

/// What a type is: `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u32);

/// Where a member lies in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At a byte.
    Byte(u32),
    /// In some bits.
    Bits {
        /// The first bit.
        offset: u32,
        /// How many.
        size: u32,
    },
}

/// A member of a structure or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) kind: TypeId,
    pub(super) place: Place,
}

const MAGIC: u16 = 0xeb9f;

/// Bytes of `struct btf_type`.
const TYPE_BYTES: usize = 12;

/// Bytes of `struct btf_member`.
const MEMBER_BYTES: usize = 12;

/// Typedefs and qualifiers that are followed from one name to what it stands for; the kernel nests a handful.
const MAX_ALIASES: usize = 32;

/// Unnamed structures within each other that are searched; the kernel nests a handful.
const MAX_NESTING: usize = 16;

/// Members that are looked at for one name. The kernel's largest structures have some hundred, with those of the unnamed
/// ones in them; a file whose structures contain themselves would have no end of them.
const MAX_MEMBERS: usize = 1 << 12;

impl Kind {
    const INT: Self = Self(1);
    const PTR: Self = Self(2);
    const ARRAY: Self = Self(3);
    pub(super) const STRUCT: Self = Self(4);
    const UNION: Self = Self(5);
    pub(super) const ENUM: Self = Self(6);
    pub(super) const TYPEDEF: Self = Self(8);
    const VOLATILE: Self = Self(9);
    const CONST: Self = Self(10);
    const RESTRICT: Self = Self(11);
    pub(super) const FUNC: Self = Self(12);
    const FUNC_PROTO: Self = Self(13);
    const FLOAT: Self = Self(16);
    const TYPE_TAG: Self = Self(18);
    const ENUM64: Self = Self(19);

    /// How many bytes follow the type's header; `None` for a kind that is not known.
    fn extra_bytes(self, n_items: usize) -> Option<usize> {
        match self.0 {
            // INT, VAR, DECL_TAG
            1 | 14 | 17 => Some(4),
            // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
            2 | 7..=12 | 16 | 18 => Some(0),
            // ARRAY
            3 => Some(12),
            // STRUCT, UNION, DATASEC, ENUM64
            4 | 5 | 15 | 19 => Some(12 * n_items),
            // ENUM, FUNC_PROTO
            6 | 13 => Some(8 * n_items),
            _ => None,
        }
    }

    /// Whether it only gives another type a name or a quality.
    fn is_alias(self) -> bool {
        matches!(
            self,
            Self::TYPEDEF | Self::VOLATILE | Self::CONST | Self::RESTRICT | Self::TYPE_TAG
        )
    }
}

impl Place {
    /// The place of a member of the member that lies here.
    pub(super) fn then(self, inner: Self) -> Option<Self> {
        match (self, inner) {
            (Self::Byte(outer), Self::Byte(inner)) => Some(Self::Byte(outer.checked_add(inner)?)),
            (Self::Byte(outer), Self::Bits { offset, size }) => {
                Some(Self::Bits { offset: outer.checked_mul(8)?.checked_add(offset)?, size })
            }
            // Bits have no members.
            (Self::Bits { .. }, _) => None,
        }
    }
}

impl Btf {
    /// Finds where each type begins.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let magic = bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic));
        if magic != Some(MAGIC) {
            return Err(Malformed::Magic);
        }
        let field = |at| read_u32(&bytes, at).ok_or(Malformed::CutOff { at });
        let header_len = to_usize(field(4)?);
        let start = header_len.saturating_add(to_usize(field(8)?));
        let end = start.saturating_add(to_usize(field(12)?));
        let strings = header_len.saturating_add(to_usize(field(16)?));
        let strings_end = strings.saturating_add(to_usize(field(20)?));
        if end.max(strings_end) > bytes.len() {
            return Err(Malformed::CutOff { at: bytes.len() });
        }
        let mut types = Vec::new();
        let mut at = start;
        while at < end {
            let info = field(at.saturating_add(4))?;
            let (kind, n_items) = (kind_of(info), to_usize(info & 0xffff));
            let extra =
                kind.extra_bytes(n_items).ok_or(Malformed::UnknownKind { at, kind: kind.0 })?;
            types.push(u32::try_from(at).map_err(|_too_large| Malformed::CutOff { at })?);
            at = at.saturating_add(TYPE_BYTES + extra);
        }
        types.shrink_to_fit();
        Ok(Self { bytes, types, strings })
    }

    /// The first type of a kind with a name; types, functions and variables share one space of names.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Option<TypeId> {
        (1_u32..)
            .map(TypeId)
            .take(self.types.len())
            .find(|id| self.kind(*id) == Some(kind) && self.name_is(*id, name))
    }

    /// What a type is.
    pub(super) fn kind(&self, id: TypeId) -> Option<Kind> {
        Some(kind_of(self.word(id, 1)?))
    }

    /// Whether a type has this name.
    pub(super) fn name_is(&self, id: TypeId, name: &str) -> bool {
        self.word(id, 0).is_some_and(|offset| self.string_is(offset, name))
    }

    /// A member of a structure or union by its name, also one of an unnamed structure or union within it.
    pub(super) fn member(&self, id: TypeId, name: &str) -> Option<Member> {
        let mut n_left = MAX_MEMBERS;
        self.member_within(id, name, MAX_NESTING, &mut n_left)
    }

    fn member_within(
        &self,
        id: TypeId,
        name: &str,
        nesting: usize,
        n_left: &mut usize,
    ) -> Option<Member> {
        let id = self.resolve(id)?;
        let info = self.word(id, 1)?;
        if !matches!(kind_of(info), Kind::STRUCT | Kind::UNION) {
            return None;
        }
        let has_bit_sizes = info >> 31 == 1;
        let first = self.start(id)?.checked_add(TYPE_BYTES)?;
        for idx in 0..to_usize(info & 0xffff) {
            *n_left = n_left.checked_sub(1)?;
            let at = first.checked_add(MEMBER_BYTES.checked_mul(idx)?)?;
            let name_offset = read_u32(&self.bytes, at)?;
            let member = Member {
                kind: TypeId(read_u32(&self.bytes, at + 4)?),
                place: place(read_u32(&self.bytes, at + 8)?, has_bit_sizes),
            };
            if self.string_is(name_offset, name) {
                return Some(member);
            }
            if self.string_is(name_offset, "")
                && let Some(depth) = nesting.checked_sub(1)
                && let Some(inner) = self.member_within(member.kind, name, depth, n_left)
            {
                return Some(Member { kind: inner.kind, place: member.place.then(inner.place)? });
            }
        }
        None
    }

    /// The size in bytes of a value of a type.
    pub(super) fn size_of(&self, id: TypeId) -> Option<u32> {
        /// Bytes of a pointer on the machines that Podmeter runs on.
        const POINTER_BYTES: u32 = 8;

        let id = self.resolve(id)?;
        match self.kind(id)? {
            Kind::PTR => Some(POINTER_BYTES),
            Kind::INT | Kind::ENUM | Kind::ENUM64 | Kind::FLOAT | Kind::STRUCT | Kind::UNION => {
                self.word(id, 2)
            }
            Kind::ARRAY => {
                let element = self.resolve(TypeId(self.word(id, 3)?))?;
                // An array of arrays is no field that a probe reads.
                let size = match self.kind(element)? {
                    Kind::ARRAY => None,
                    _ => self.size_of(element),
                }?;
                size.checked_mul(self.word(id, 5)?)
            }
            _ => None,
        }
    }

    /// The types of a function's parameters, in their order.
    pub(super) fn parameters(&self, function: TypeId) -> Option<Vec<TypeId>> {
        self.prototype_parameters(TypeId(self.word(function, 2)?))
    }

    /// The types of the parameters of the functions that a pointer type, maybe by a typedef, points at.
    pub(super) fn callback_parameters(&self, pointer: TypeId) -> Option<Vec<TypeId>> {
        self.prototype_parameters(self.pointee(pointer)?)
    }

    fn prototype_parameters(&self, prototype: TypeId) -> Option<Vec<TypeId>> {
        let info = self.word(prototype, 1)?;
        if kind_of(info) != Kind::FUNC_PROTO {
            return None;
        }
        // Each parameter is a name and a type behind the header's three words.
        (0..to_usize(info & 0xffff))
            .map(|idx| Some(TypeId(self.word(prototype, 4 + 2 * idx)?)))
            .collect()
    }

    /// Names and values of an enumeration of 32-bit numbers.
    pub(super) fn enumerators(&self, id: TypeId) -> Option<Vec<(&str, u32)>> {
        let info = self.word(id, 1)?;
        if kind_of(info) != Kind::ENUM {
            return None;
        }
        let enumerator =
            |idx| Some((self.string(self.word(id, 3 + 2 * idx)?)?, self.word(id, 4 + 2 * idx)?));
        (0..to_usize(info & 0xffff)).map(enumerator).collect()
    }

    /// What a pointer points at.
    pub(super) fn pointee(&self, id: TypeId) -> Option<TypeId> {
        let id = self.resolve(id)?;
        if self.kind(id)? != Kind::PTR {
            return None;
        }
        self.resolve(TypeId(self.word(id, 2)?))
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, id: TypeId) -> Option<TypeId> {
        let mut id = id;
        for _ in 0..MAX_ALIASES {
            if !self.kind(id)?.is_alias() {
                return Some(id);
            }
            id = TypeId(self.word(id, 2)?);
        }
        None
    }

    /// A 32-bit word of a type, counted from its header.
    fn word(&self, id: TypeId, idx: usize) -> Option<u32> {
        read_u32(&self.bytes, self.start(id)?.checked_add(4 * idx)?)
    }

    fn start(&self, id: TypeId) -> Option<usize> {
        let idx = to_usize(id.0).checked_sub(1)?;
        self.types.get(idx).copied().map(to_usize)
    }

    fn string(&self, offset: u32) -> Option<&str> {
        let rest = self.bytes.get(self.strings.checked_add(to_usize(offset))?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        str::from_utf8(rest.get(..end)?).ok()
    }

    fn string_is(&self, offset: u32, expected: &str) -> bool {
        let at = self.strings.saturating_add(to_usize(offset));
        let rest = self.bytes.get(at..).unwrap_or_default();
        rest.strip_prefix(expected.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn kind_of(info: u32) -> Kind {
    Kind((info >> 24) & 0x1f)
}

/// A member's offset is in bits; where the structure has bit sizes, its upper byte is the size of a bit field.
fn place(offset: u32, has_bit_sizes: bool) -> Place {
    let (bits, size) =
        if has_bit_sizes { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
    match size {
        0 => Place::Byte(bits / 8),
        size => Place::Bits { offset: bits, size },
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Lossless on every machine that has a BTF file: `usize` has at least 32 bits there.
fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
