//! The shaders as the build script found them, and what names a kernel of theirs.

use std::borrow::Cow;

use super::error::GpuError;
use crate::ops::Dtype;

/// A storage binding of an entry point.
#[derive(Debug)]
pub struct Binding {
    /// Global variable, and operand, of that name.
    pub name: &'static str,
    /// `@binding` in group 1.
    pub index: u32,
    /// Whether the shader declares it `read_write`.
    pub writable: bool,
    /// Whether it is read and written four neighbours at once: every replica must start at a multiple of four.
    pub quads: bool,
    /// What the shader takes its elements for; bytes come packed into words, as [`Dtype::U32`].
    pub elements: Dtype,
}

/// A compute entry point with the storage it can reach.
#[derive(Debug)]
pub struct EntryPoint {
    /// Function name.
    pub name: &'static str,
    /// Its tensors.
    pub bindings: &'static [Binding],
}

/// What a device must be able to do beyond WebGPU's core for a shader to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Nothing.
    Core,
    /// Pass values from lane to lane.
    Subgroups,
    /// Compute in 16 bits.
    Half,
    /// Multiply matrices of 16 bits a subgroup at a time.
    Matrices,
}

/// One file of `shaders/`.
#[derive(Debug)]
pub struct Shader {
    /// File name without extension.
    pub name: &'static str,
    /// WGSL, with what it includes and repeats written out.
    pub source: &'static str,
    /// What it asks of the device.
    pub ability: Ability,
    /// Names of its pipeline constants.
    pub constants: &'static [&'static str],
    /// Members of its `Params` block with their byte offsets.
    pub params: &'static [(&'static str, u32)],
    /// Its kernels.
    pub entry_points: &'static [EntryPoint],
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// All shaders.
pub fn all() -> &'static [Shader] {
    SHADERS
}

/// What tells one pipeline from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineKey {
    /// File of `shaders/`.
    pub shader: &'static str,
    /// Function in it.
    pub entry: Cow<'static, str>,
    /// Pipeline constants that differ from their defaults; whole numbers.
    pub constants: Vec<(&'static str, u32)>,
}

impl PipelineKey {
    pub(super) fn shader(&self) -> Result<&'static Shader, GpuError> {
        SHADERS.iter().find(|s| s.name == self.shader).ok_or_else(|| self.wrong("there is no such shader"))
    }

    pub(super) fn entry_point(&self) -> Result<&'static EntryPoint, GpuError> {
        let entries = self.shader()?.entry_points;
        entries.iter().find(|e| e.name == self.entry).ok_or_else(|| self.wrong("there is no such entry point"))
    }

    pub(super) fn wrong(&self, message: impl Into<String>) -> GpuError {
        GpuError::Interface { shader: self.shader, entry: self.entry.clone().into_owned(), message: message.into() }
    }
}
