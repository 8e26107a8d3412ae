//! What measurements and compiled pipelines hold for.

use std::fmt;

use sha2::{Digest, Sha256};

use super::shaders;
use crate::plan::{Profile, Variant};

/// An adapter, its driver and this program: what measurements and compiled pipelines hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterKey {
    pub(super) origin: String,
    pub(super) slug: String,
}

impl AdapterKey {
    /// The key of an adapter under the limits of a profile, which decide what kernels it can run.
    pub fn of(info: &wgpu::AdapterInfo, profile: &Profile) -> AdapterKey {
        let mut program = Sha256::new();
        for shader in shaders::all() {
            program.update(shader.source);
        }
        for variant in Variant::ALL {
            program.update(variant.to_string());
        }
        let origin = format!(
            "{} ({:?}, {} {}, vendor {:x}, device {:x}); {} bytes a binding, subgroups of {}, aligned to {}; \
             ldfa-gpu {}, shaders {}",
            info.name,
            info.backend,
            info.driver,
            info.driver_info,
            info.vendor,
            info.device,
            profile.max_binding_bytes,
            profile.subgroup_lanes.map_or("any size".to_owned(), |lanes| lanes.to_string()),
            profile.binding_alignment,
            env!("CARGO_PKG_VERSION"),
            &hex(&program.finalize())[..16],
        );
        let letters = info.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
        let words: String = letters.collect();
        let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
        AdapterKey { origin, slug: words.join("-").chars().take(40).collect() }
    }
}

impl fmt::Display for AdapterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
