//! Kernels chosen by measurement, as plain data: which variant computes which class of shapes.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use super::Variant;
use crate::ops::{Epilogue, Op};

/// Operations that the same kernel is expected to be best for.
///
/// Kind, transposes and the parts of the epilogue are exact, for they change the kernel. Rows, columns, inner length and
/// replicas are rounded up to powers of two, and marked where the exact number is a multiple of four, which decides
/// whether rows can be read as vectors. The text is stable: it is the key in files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShapeClass(String);

impl ShapeClass {
    /// The class of an operation.
    pub fn of(op: &Op) -> ShapeClass {
        let (kind, extents, epilogue) = match op {
            Op::Gemm(gemm) => {
                let letter = |transposed| if transposed { 't' } else { 'n' };
                let sums = if gemm.sums.is_some() { "+sums" } else { "" };
                let parts = if gemm.splits > 1 { format!("/{}", gemm.splits) } else { String::new() };
                let half = if gemm.half.is_some() { " f16" } else { "" };
                let window = gemm.convolution.map_or(String::new(), |c| format!(" {}", c.window));
                let kind =
                    format!("gemm {}{}{window}{half}{sums}{parts}", letter(gemm.transpose_a), letter(gemm.transpose_b));
                (kind, vec![gemm.out.rows(), gemm.out.cols(), gemm.inner()], Some(&gemm.epilogue))
            }
            Op::Transport(transport) => {
                let (delta, rank) = (transport.delta, transport.p.cols());
                let extents = vec![delta.rows(), delta.cols(), rank, transport.out.cols()];
                ("transport".to_owned(), extents, Some(&transport.epilogue))
            }
            other => {
                let largest = other.operands().into_iter().map(|o| o.tensor).max_by_key(|t| t.shape.per_replica());
                let extents = largest.map_or(Vec::new(), |t| vec![t.rows(), t.cols()]);
                (other.name().to_owned(), extents, None)
            }
        };
        let extents: Vec<String> = extents.into_iter().map(bucket).collect();
        let parts = epilogue.map_or(String::new(), parts);
        ShapeClass(format!("{kind} {} r{}{parts}", extents.join(" x "), op.replicas().next_power_of_two()))
    }
}

impl fmt::Display for ShapeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `64` for 33 to 64, `64v` if a multiple of four.
fn bucket(extent: u32) -> String {
    let power = u64::from(extent).next_power_of_two();
    format!("{power}{}", if extent.is_multiple_of(4) { "v" } else { "" })
}

fn parts(epilogue: &Epilogue) -> String {
    let mut text = String::new();
    for (present, name) in [
        (epilogue.addend.is_some(), " addend"),
        (epilogue.bias.is_some(), " bias"),
        (epilogue.clamp.is_some(), " clamp"),
    ] {
        text += if present { name } else { "" };
    }
    if let Some(f) = epilogue.activation {
        text += &format!(" {f}");
    }
    if let Some((f, _)) = epilogue.gate {
        text += &format!(" gate-{f}");
    }
    text
}

/// Measured choices by shape class; empty, every operation gets the default of [`select`](super::select).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    choices: BTreeMap<ShapeClass, Variant>,
}

/// A text of choices that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunedError {
    /// Cut, altered, or something else altogether.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Whole, but of a program that knows more.
    #[error("it was written by another version of this program: {0}")]
    Foreign(String),
}

/// Version of the text's layout.
const FORMAT: i64 = 1;

const DIGEST: &str = "sha256 = \"";

impl Tuned {
    /// The choice for a class.
    pub fn get(&self, class: &ShapeClass) -> Option<Variant> {
        self.choices.get(class).copied()
    }

    /// Makes or replaces a choice.
    pub fn insert(&mut self, class: ShapeClass, variant: Variant) {
        self.choices.insert(class, variant);
    }

    /// Takes over the choices of another table for classes that this one lacks.
    pub fn complete(&mut self, other: &Tuned) {
        for (class, variant) in &other.choices {
            self.choices.entry(class.clone()).or_insert(*variant);
        }
    }

    /// Number of choices.
    pub fn len(&self) -> usize {
        self.choices.len()
    }

    /// Whether there is no choice.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// The choices in the order of their classes.
    pub fn iter(&self) -> impl Iterator<Item = (&ShapeClass, Variant)> {
        self.choices.iter().map(|(class, variant)| (class, *variant))
    }

    /// TOML with a checksum in its first line. `origin` says, in one line, on what the choices were measured.
    pub fn to_text(&self, origin: &str) -> String {
        let mut body = format!("format = {FORMAT}\norigin = {}\n\n[kernels]\n", toml::Value::from(origin));
        for (class, variant) in &self.choices {
            body += &format!("{} = \"{variant}\"\n", toml::Value::from(class.0.as_str()));
        }
        format!("{DIGEST}{}\"\n{body}", digest(&body))
    }

    /// Reads back what [`Tuned::to_text`] wrote: origin and choices.
    ///
    /// # Errors
    /// [`TunedError`] when a byte differs, or the text is of another version.
    pub fn from_text(text: &str) -> Result<(String, Tuned), TunedError> {
        let damaged = |what: &str| TunedError::Damaged(what.to_owned());
        let (digest_line, body) = text.split_once('\n').ok_or_else(|| damaged("it ends in its first line"))?;
        let found = digest_line.strip_prefix(DIGEST).and_then(|rest| rest.strip_suffix('"'));
        if found != Some(digest(body).as_str()) {
            return Err(damaged("its checksum does not match"));
        }
        let mut table: toml::Table = body.parse().map_err(|_| damaged("it is not TOML"))?;
        match table.get("format").and_then(toml::Value::as_integer) {
            Some(FORMAT) => {}
            Some(other) => return Err(TunedError::Foreign(format!("format {other}"))),
            None => return Err(damaged("it has no format")),
        }
        let (Some(toml::Value::String(origin)), Some(toml::Value::Table(kernels))) =
            (table.remove("origin"), table.remove("kernels"))
        else {
            return Err(damaged("origin or kernels are missing"));
        };
        let mut choices = BTreeMap::new();
        for (class, name) in kernels {
            let name = name.as_str().unwrap_or_default();
            let variant = name.parse().map_err(|_| TunedError::Foreign(format!("it names the kernel {name:?}")))?;
            choices.insert(ShapeClass(class), variant);
        }
        Ok((origin, Tuned { choices }))
    }
}

fn digest(body: &str) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Activation, Dtype, Gemm, Half, Recording};
    use crate::plan::{Options, Plan, Profile, candidates, contenders, select};

    fn gemm(rows: u32, cols: u32, inner: u32, replicas: u32, epilogue: Epilogue) -> Op {
        let mut recording = Recording::new(replicas);
        let a = recording.state("a", rows, inner, Dtype::F32);
        let b = recording.state("b", inner, cols, Dtype::F32);
        let out = recording.state("out", rows, cols, Dtype::F32);
        Gemm { epilogue, ..Gemm::nn(a, b, out) }.into()
    }

    fn class(rows: u32, cols: u32, inner: u32, replicas: u32) -> String {
        ShapeClass::of(&gemm(rows, cols, inner, replicas, Epilogue::default())).to_string()
    }

    #[test]
    fn classes_gather_what_one_kernel_serves_and_part_what_differs() {
        assert_eq!(class(100, 128, 784, 3), "gemm nn 128v x 128v x 1024v r4");
        assert_eq!(class(128, 68, 1024, 4), class(68, 128, 516, 3));
        assert_ne!(class(101, 128, 784, 3), class(100, 128, 784, 3), "a row that is no vector");
        assert_ne!(class(129, 128, 784, 3), class(128, 128, 784, 3));
        assert_ne!(class(128, 128, 784, 5), class(128, 128, 784, 4));
        let epilogue = Epilogue { clamp: Some(1.0), activation: Some(Activation::Gelu), ..Epilogue::default() };
        let class = ShapeClass::of(&gemm(8, 8, 8, 1, epilogue));
        assert_eq!(class.to_string(), "gemm nn 8v x 8v x 8v r1 clamp gelu");
    }

    fn some() -> Tuned {
        let mut tuned = Tuned::default();
        tuned.insert(ShapeClass("gemm nn 8v x 8v x 8v r1".into()), Variant::Stream16x64);
        tuned.insert(ShapeClass("with \"quotes\" and \\".into()), Variant::Tile64x64);
        tuned
    }

    #[test]
    fn choices_survive_as_text() {
        for tuned in [Tuned::default(), some()] {
            let text = tuned.to_text("an adapter, \"quoted\"");
            assert_eq!(Tuned::from_text(&text), Ok(("an adapter, \"quoted\"".into(), tuned)));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let text = some().to_text("here");
        for at in 0..text.len() {
            assert!(Tuned::from_text(&text[..at]).is_err(), "cut at {at}");
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let flipped = String::from_utf8(bytes).unwrap();
                assert!(Tuned::from_text(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(Tuned::from_text("").is_err());
    }

    #[test]
    fn other_versions_are_told_from_damage() {
        let seal = |body: &str| format!("{DIGEST}{}\"\n{body}", digest(body));
        let read = |body: &str| Tuned::from_text(&seal(body));
        let newer = "format = 2\norigin = \"x\"\n[kernels]\n";
        assert_eq!(read(newer), Err(TunedError::Foreign("format 2".into())));
        let unknown = "format = 1\norigin = \"x\"\n[kernels]\n\"gemm\" = \"magic\"\n";
        assert!(matches!(read(unknown), Err(TunedError::Foreign(why)) if why.contains("magic")));
        for broken in ["", "format = 1\n", "format = 1\norigin = 3\n[kernels]\n", "format = [\n"] {
            assert!(matches!(read(broken), Err(TunedError::Damaged(_))), "{broken}");
        }
    }

    #[test]
    fn select_takes_the_choice_where_the_adapter_has_that_kernel() {
        let op = gemm(100, 100, 100, 1, Epilogue::default());
        let profile = Profile::reference();
        let default = select(&op, &profile, &Tuned::default());
        let all = candidates(&op, &profile);
        assert!(all.contains(&default));
        for variant in Variant::ALL {
            let mut tuned = Tuned::default();
            tuned.insert(ShapeClass::of(&op), variant);
            let expected = if all.contains(&variant) { variant } else { default };
            assert_eq!(select(&op, &profile, &tuned), expected);
            assert_eq!(select(&gemm(100, 101, 100, 1, Epilogue::default()), &profile, &tuned), default);
        }
    }

    /// A kernel that only some adapters can run wins by measurement, which compares it with the reference first.
    #[test]
    fn matrix_units_are_measured_before_they_are_used() {
        let Op::Gemm(whole) = gemm(512, 512, 512, 1, Epilogue::default()) else { unreachable!("asked for a product") };
        let op = Op::from(Gemm { half: Some(Half::default()), ..whole });
        let gpu = Profile { software: false, ..Profile::reference() };
        for (side, units) in [(8, Variant::Matrix64x32), (16, Variant::Matrix128x64)] {
            let profile = Profile { matrix_side: Some(side), ..gpu };
            assert!(candidates(&op, &profile).contains(&units) && contenders(&op, &profile).contains(&units));
            assert_eq!(select(&op, &profile, &Tuned::default()), Variant::Half32x32);
            let mut tuned = Tuned::default();
            tuned.insert(ShapeClass::of(&op), units);
            assert_eq!(select(&op, &profile, &tuned), units);
            assert_eq!(select(&op, &gpu, &tuned), Variant::Half32x32, "where there are no such units");
        }
        assert!(candidates(&op, &Profile { half: false, ..gpu }).is_empty());
    }

    #[test]
    fn a_plan_follows_force_then_choices_then_defaults() {
        let mut recording = Recording::new(1);
        let a = recording.state("a", 8, 8, Dtype::F32);
        let out = recording.scratch("out", 8, 8);
        recording.push(Gemm::nn(a, a, out)).unwrap();
        let (op, profile) = (recording.entries(crate::ops::Phase::Train)[0].op.clone(), Profile::reference());
        let mut tuned = Tuned::default();
        tuned.insert(ShapeClass::of(&op), Variant::Tile64x64);
        let variant = |force| {
            let options = Options { force, ..Options::default() };
            let plan = Plan::tuned(recording.clone(), &profile, options, &tuned).unwrap();
            plan.nodes(crate::ops::Phase::Train)[0].variant
        };
        assert_eq!(variant(None), Variant::Tile64x64);
        assert_eq!(variant(Some(Variant::Stream16x64)), Variant::Stream16x64);
    }

    #[test]
    fn what_is_there_wins_over_what_is_added() {
        let class = |name: &str| ShapeClass(name.into());
        let (mut one, mut other) = (Tuned::default(), Tuned::default());
        one.insert(class("a"), Variant::Tile64x64);
        other.insert(class("a"), Variant::Stream16x64);
        other.insert(class("b"), Variant::Stream16x64);
        one.complete(&other);
        assert_eq!(
            (one.get(&class("a")), one.get(&class("b"))),
            (Some(Variant::Tile64x64), Some(Variant::Stream16x64))
        );
        assert_eq!(one.len(), 2);
    }
}
