//! Folders of experiments as a page shows them: their pictures, and their numbers beside what is published.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::compare::Comparison;
use super::{ExperimentError, fields, setting, theory};
use crate::files::{self, create_folder};

/// A folder that `theory`, `fields` or `compare` has written.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    kind: &'static Kind,
}

/// What an experiment leaves.
#[derive(Debug)]
struct Kind {
    /// The file that a folder is known by.
    csv: &'static str,
    heading: &'static str,
    /// What others have published of it.
    published: &'static str,
    /// File and caption.
    pictures: &'static [(&'static str, &'static str)],
    numbers: fn(&Path) -> Result<Numbers, ExperimentError>,
}

/// What the file comes to.
struct Numbers {
    table: Vec<Vec<String>>,
    sentences: Vec<String>,
}

static KINDS: [Kind; 3] = [
    Kind {
        csv: "theory.csv",
        heading: "Modes of the linear network",
        published: "Published (arXiv 2502.20580): with P and Q of rank r that learn, the r largest modes come to 1; with fixed ones \
                    modes settle elsewhere; with r as large as the output all come to 1.",
        pictures: &[("modes.png", "Overlap with the modes of the data; dashed: the closed equations")],
        numbers: of_theory,
    },
    Kind {
        csv: "fields.csv",
        heading: "Receptive fields",
        published: "Published (arXiv 2502.20580), as pictures without a measure: at full rank fields are oriented, at low rank they are \
                    centres with surrounds. Orientedness is measured as by Lindsey et al. (2019).",
        pictures: &[
            ("fields.png", "Fields of the first seed's units, the most oriented first, in one scale"),
            ("distribution.png", "Orientedness and centre-surround index of every unit"),
        ],
        numbers: of_fields,
    },
    Kind {
        csv: "compare.csv",
        heading: "Representations",
        published: "There are no published numbers: how the dimension of errors shapes representations is an open question.",
        pictures: &[("compare.png", "Linear CKA and SVCCA between networks, by layer")],
        numbers: of_likeness,
    },
];

/// Makes the folder of an experiment.
///
/// # Errors
/// If it holds a run or a sweep, which would then no longer be known as such, or cannot be made.
pub fn prepare(folder: &Path) -> Result<(), ExperimentError> {
    let foreign = [("config.toml", "a run"), ("sweep.toml", "a sweep")];
    match foreign.iter().find(|(file, _)| folder.join(file).exists()) {
        Some((_, what)) => Err(setting(format!("{} holds {what}; choose another --out", folder.display()))),
        None => Ok(create_folder(folder)?),
    }
}

/// A folder as the page's template takes it.
#[derive(Serialize)]
pub(super) struct Exhibit {
    heading: &'static str,
    folder: String,
    published: &'static str,
    pictures: Vec<Picture>,
    /// The first line holds the names of the columns.
    table: Vec<Vec<String>>,
    sentences: Vec<String>,
}

/// A picture within a page.
#[derive(Serialize)]
pub(super) struct Picture {
    /// Unique within the page.
    id: String,
    caption: &'static str,
    png: String,
}

impl Picture {
    /// `png` is the content of a PNG file.
    pub(super) fn new(id: impl Into<String>, caption: &'static str, png: &[u8]) -> Picture {
        Picture { id: id.into(), caption, png: STANDARD.encode(png) }
    }
}

impl Folder {
    /// What a folder holds of experiments.
    pub fn find(path: &Path) -> impl Iterator<Item = Folder> {
        let found = KINDS.iter().filter(move |kind| path.join(kind.csv).is_file());
        found.map(|kind| Folder { path: path.to_owned(), kind })
    }

    /// Reads numbers and pictures; `number` tells the folder's pictures from another's.
    pub(super) fn read(&self, number: usize) -> Result<Exhibit, ExperimentError> {
        let Kind { csv, heading, published, pictures, numbers } = self.kind;
        let picture = |&(name, caption): &(&'static str, &'static str)| {
            let path = self.path.join(name);
            let png = files::read(&path, files::MOST)?;
            if !png.starts_with(b"\x89PNG\r\n\x1a\n") {
                return Err(setting(format!(
                    "{} is no PNG file; the command that made it writes it anew",
                    path.display()
                )));
            }
            Ok(Picture::new(format!("{}-{number}", name.trim_end_matches(".png")), caption, &png))
        };
        let pictures = pictures.iter().map(picture).collect::<Result<Vec<_>, ExperimentError>>()?;
        let Numbers { table, sentences } = numbers(&self.path.join(csv))?;
        Ok(Exhibit { heading, folder: self.path.display().to_string(), published, pictures, table, sentences })
    }
}

/// A caption as a sentence.
fn sentence(caption: &str) -> String {
    format!("In the table: {caption}.")
}

fn of_theory(path: &Path) -> Result<Numbers, ExperimentError> {
    let table = theory::table(&theory::endings(&theory::read_csv(path)?));
    Ok(Numbers { table, sentences: vec![sentence(theory::CAPTION)] })
}

fn of_likeness(path: &Path) -> Result<Numbers, ExperimentError> {
    let comparison = Comparison::read(path)?;
    Ok(Numbers { table: comparison.table(), sentences: vec![sentence(&comparison.caption())] })
}

fn of_fields(path: &Path) -> Result<Numbers, ExperimentError> {
    let families = fields::summaries(&fields::read_rows(path)?);
    let sentences = std::iter::once(sentence(fields::CAPTION)).chain(fields::verdicts(&families)).collect();
    Ok(Numbers { table: fields::table(&families), sentences })
}
