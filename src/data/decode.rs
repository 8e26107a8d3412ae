//! One image file: told by its content, decoded strictly, turned upright, brought to bytes.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::error::{DataError, Fault, LayoutFault, Place};

/// What is read, by what it is called in messages.
const FORMATS: [ImageFormat; 4] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Gif];

/// Suffixes of images that the `image` crate has no name for.
const FURTHER_SUFFIXES: [&str; 9] = ["jpe", "heic", "heif", "hif", "jxl", "jp2", "j2k", "svg", "psd"];

/// No classifier here takes larger images; a header that claims more is damaged.
const SIDE_LIMIT: u32 = 8192;

/// The largest image accepted, in 16 bits with transparency, is half of it without any compression.
const FILE_LIMIT: u64 = 1 << 30;

/// Most pixels that a byte of a file can stand for: deflate makes at most 1032 bytes of one, with eight pixels of one bit
/// in each. A header that claims more than its file can hold gets no memory.
const PIXELS_PER_BYTE: u64 = 8 * 1032;

/// What the header of an image says.
pub(super) struct Header {
    /// Rows, once the image is upright.
    pub(super) height: u32,
    /// Columns, once the image is upright.
    pub(super) width: u32,
    /// Whether its samples are more than grey; their values may be grey all the same.
    pub(super) has_colour: bool,
}

/// Reads the header of an image; `None` if the file neither is nor claims to be one.
///
/// The content decides what a file is. Its suffix only says that an image was meant where the content is none.
pub(super) fn header(file: &Path) -> Result<Option<Header>, DataError> {
    let opened = File::open(file).map_err(DataError::io("open", file))?;
    let length = opened.metadata().map_err(DataError::io("read", file))?.len();
    if length > FILE_LIMIT {
        return Err(DataError::malformed(file, Place::Byte(FILE_LIMIT), Fault::TooLong { limit: FILE_LIMIT }));
    }
    let mut head = Vec::new();
    (&opened).take(32).read_to_end(&mut head).map_err(DataError::io("read", file))?;
    let format = match format(&head) {
        Some(format) if FORMATS.contains(&format) => format,
        Some(_) => return Err(DataError::layout(file, LayoutFault::UnsupportedFormat)),
        None => match named_format(file) {
            NamedFormat::Readable => return Err(unreadable(file, "its content is none of png, jpg, bmp and gif")),
            NamedFormat::Other => return Err(DataError::layout(file, LayoutFault::UnsupportedFormat)),
            NamedFormat::None => return Ok(None),
        },
    };
    let content = BufReader::new(File::open(file).map_err(DataError::io("open", file))?);
    let mut decoder =
        ImageReader::with_format(content, format).into_decoder().map_err(|error| unreadable(file, error))?;
    let (width, height) = decoder.dimensions();
    if !(1..=SIDE_LIMIT).contains(&width) || !(1..=SIDE_LIMIT).contains(&height) {
        let claim = format!("its header claims {height} x {width} pixels, accepted are sides of 1 to {SIDE_LIMIT}");
        return Err(unreadable(file, claim));
    }
    if u64::from(width) * u64::from(height) > length * PIXELS_PER_BYTE {
        let claim = format!("its header claims {height} x {width} pixels, more than {length} bytes can hold");
        return Err(unreadable(file, claim));
    }
    let has_colour = decoder.color_type().has_color();
    let orientation = decoder.orientation().map_err(|error| unreadable(file, error))?;
    let (height, width) = if lies_on_its_side(orientation) { (width, height) } else { (height, width) };
    Ok(Some(Header { height, width, has_colour }))
}

/// A decoded image, upright, with samples as its file has them.
pub(super) struct Picture {
    image: DynamicImage,
    /// Whether it was not upright in its file.
    pub(super) turned: bool,
}

/// Decodes a file whose header has been read; what is missing in it is an error, and nothing is made up for it.
pub(super) fn decode(file: &Path) -> Result<Picture, DataError> {
    let opened = File::open(file).map_err(DataError::io("open", file))?;
    let mut content = Vec::new();
    opened.take(FILE_LIMIT).read_to_end(&mut content).map_err(DataError::io("read", file))?;
    let format = format(&content).filter(|format| FORMATS.contains(format));
    let format = format.ok_or_else(|| unreadable(file, "it changed while it was being read"))?;
    let mut decoder =
        ImageReader::with_format(Cursor::new(&content), format).into_decoder().map_err(|e| unreadable(file, e))?;
    let orientation = decoder.orientation().map_err(|error| unreadable(file, error))?;
    let mut image = match format {
        ImageFormat::Jpeg => jpeg(&content).map_err(|reason| unreadable(file, reason))?,
        _ => DynamicImage::from_decoder(decoder).map_err(|error| unreadable(file, error))?,
    };
    image.apply_orientation(orientation);
    Ok(Picture { image, turned: orientation != Orientation::NoTransforms })
}

/// An image in bytes.
pub(super) struct Pixels {
    /// One a pixel if every pixel is grey, else three.
    pub(super) bytes: Vec<u8>,
    /// How many a pixel.
    pub(super) channels: u32,
    /// Whether it lets something through, and was put on white.
    pub(super) on_white: bool,
}

impl Picture {
    /// The largest of its samples if they have 16 bits.
    pub(super) fn largest_deep_sample(&self) -> Option<u16> {
        let samples = self.image.as_flat_samples_u16()?.samples;
        let channels = usize::from(self.image.color().channel_count());
        let colours = channels - usize::from(self.image.color().has_alpha());
        samples.chunks_exact(channels).flat_map(|pixel| &pixel[..colours]).copied().max()
    }

    /// Brings it to bytes; samples of 16 bits are taken to have only the lower `bits` of them.
    ///
    /// An image whose transparency differs from pixel to pixel is put on white. Where it is the same everywhere it shows
    /// nothing, and is dropped.
    pub(super) fn into_pixels(self, bits: u32, file: &Path) -> Result<Pixels, DataError> {
        let color = self.image.color();
        let (mut channels, has_alpha) = (usize::from(color.channel_count()), color.has_alpha());
        let mut bytes = match self.image.as_flat_samples_u16() {
            Some(deep) => {
                let is_alpha = |at: usize| has_alpha && at % channels == channels - 1;
                let limit = |at: usize| if is_alpha(at) { u32::from(u16::MAX) } else { (1 << bits) - 1 };
                let samples = deep.samples.iter().enumerate();
                samples.map(|(at, &sample)| ((u32::from(sample) * 255 + limit(at) / 2) / limit(at)) as u8).collect()
            }
            None => self.image.into_bytes(),
        };

        let mut on_white = false;
        if has_alpha {
            let alphas = || bytes.iter().skip(channels - 1).step_by(channels);
            on_white = alphas().any(|alpha| Some(alpha) != alphas().next());
            bytes = bytes
                .chunks_exact(channels)
                .flat_map(|pixel| {
                    let (colours, alpha) = pixel.split_at(channels - 1);
                    let alpha = if on_white { u32::from(alpha[0]) } else { 255 };
                    colours.iter().map(move |&c| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
                })
                .collect();
            channels -= 1;
            if on_white && bytes.chunks_exact(channels).all(|pixel| pixel == &bytes[..channels]) {
                return Err(DataError::malformed(file, Place::File, Fault::Vanishes));
            }
        }
        if channels == 3 && bytes.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]) {
            bytes = bytes.into_iter().step_by(3).collect();
            channels = 1;
        }
        Ok(Pixels { bytes, channels: channels as u32, on_white })
    }
}

/// Decodes a JPEG that is all there.
///
/// What a scan lacks, decoders take for zeros. A strict one refuses a file that ends within a scan, but neither one that
/// ends within the last row of blocks nor one with an end mark after what is left of it. So the end mark must be there, and
/// ones are put in before it: no code consists of ones alone, so that a scan that needs more than it has meets an error. A
/// whole scan never reads them.
fn jpeg(content: &[u8]) -> Result<DynamicImage, String> {
    let end = jpeg_end(content).ok_or("it ends before its end mark: it was cut")?;
    let guarded = [&content[..end], &[0xff, 0x00].repeat(16), &[0xff, 0xd9]].concat();
    let side = SIDE_LIMIT as usize;
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&guarded), options);
    let damaged = |error: DecodeErrors| format!("its data are damaged or end early: {error}").replace('"', "");
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    let colours = match decoder.input_colorspace() {
        Some(own @ (ColorSpace::Luma | ColorSpace::LumaA | ColorSpace::RGB | ColorSpace::RGBA)) => own,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    let bytes = decoder.decode().map_err(damaged)?;
    let (width, height) = (width as u32, height as u32);
    let image = match colours {
        ColorSpace::Luma => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageLuma8),
        ColorSpace::LumaA => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageLumaA8),
        ColorSpace::RGBA => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageRgba8),
        _ => ImageBuffer::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8),
    };
    image.ok_or_else(|| "it has fewer pixels than its header claims".into())
}

/// Where the end mark of a JPEG begins that follows a scan: not that of a preview within its header.
fn jpeg_end(content: &[u8]) -> Option<usize> {
    let mut at = 2;
    let mut scanned = false;
    loop {
        // In a scan, 0xff is followed by zero where it is data, and by a restart mark between two stretches of them.
        at += content
            .get(at..)?
            .windows(2)
            .position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff))?;
        match content[at + 1] {
            0xd9 => return scanned.then_some(at),
            0x01 | 0xd8 => at += 2,
            mark => {
                scanned |= mark == 0xda;
                at += 2 + usize::from(u16::from_be_bytes([*content.get(at + 2)?, *content.get(at + 3)?]));
            }
        }
    }
}

fn format(head: &[u8]) -> Option<ImageFormat> {
    // Pictures of phones are files of the ISO base media format, whose brand the `image` crate knows for one kind only.
    let is_heif =
        head.get(4..8) == Some(b"ftyp") && matches!(head.get(8..12), Some(b"heic" | b"heix" | b"mif1" | b"msf1"));
    if is_heif { Some(ImageFormat::Avif) } else { image::guess_format(head).ok() }
}

/// What a file's suffix claims that it is.
enum NamedFormat {
    Readable,
    Other,
    None,
}

fn named_format(file: &Path) -> NamedFormat {
    let suffix = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ImageFormat::from_extension(&suffix) {
        Some(format) if FORMATS.contains(&format) => NamedFormat::Readable,
        Some(_) => NamedFormat::Other,
        None if suffix == "jpe" => NamedFormat::Readable,
        None if FURTHER_SUFFIXES.contains(&suffix.as_str()) => NamedFormat::Other,
        None => NamedFormat::None,
    }
}

fn lies_on_its_side(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

fn unreadable(file: &Path, reason: impl ToString) -> DataError {
    DataError::malformed(file, Place::File, Fault::Image(reason.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use image::{GrayImage, Luma, Rgb, RgbImage};

    /// An image of 24 x 20 pixels that differ everywhere, as a file of a format.
    fn encoded(format: ImageFormat) -> Vec<u8> {
        let value = |x: u32, y: u32, by: u32| (x * x * by + y * 31 + x * y * 7) as u8;
        let image = RgbImage::from_fn(24, 20, |x, y| Rgb([value(x, y, 3), value(y, x, 5), value(x, y, 11)]));
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn decoded(path: &Path, content: &[u8]) -> Result<Vec<u8>, DataError> {
        fs::write(path, content).unwrap();
        header(path)?;
        Ok(decode(path)?.into_pixels(16, path)?.bytes)
    }

    #[test]
    fn a_cut_file_is_an_error_or_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        for format in FORMATS {
            let content = encoded(format);
            let whole = decoded(&path, &content).unwrap();
            let (mut refused, ends) = (0, (8..content.len()).step_by(3).chain(content.len() - 20..content.len()));
            let cuts = ends.clone().count();
            for end in ends {
                match decoded(&path, &content[..end]) {
                    Ok(bytes) => assert!(bytes == whole, "{format:?} cut to {end} of {} bytes", content.len()),
                    Err(error) => {
                        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
                        refused += 1;
                    }
                }
            }
            assert!(refused > cuts * 9 / 10, "{format:?}: {refused} of {cuts} cuts refused");
        }
    }

    #[test]
    fn a_jpeg_whose_end_mark_comes_early_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.jpg");
        let content = encoded(ImageFormat::Jpeg);
        let whole = decoded(&path, &content).unwrap();
        let scan = content.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        let mut refused = 0;
        for end in scan..content.len() - 2 {
            match decoded(&path, &[&content[..end], &[0xff, 0xd9]].concat()) {
                Ok(bytes) => assert!(bytes == whole, "{end} of {}", content.len()),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > (content.len() - scan) * 9 / 10, "{refused} of {}", content.len() - scan);
        // What follows the end is none of the image's business; phones put a second one there.
        assert_eq!(decoded(&path, &[&content[..], &content[..99]].concat()).unwrap(), whole);
    }

    #[test]
    fn a_header_that_claims_more_than_its_file_holds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.bmp");
        let mut content = encoded(ImageFormat::Bmp);
        content.truncate(200);
        content[18..22].copy_from_slice(&8000u32.to_le_bytes());
        content[22..26].copy_from_slice(&8000u32.to_le_bytes());
        let message = decoded(&path, &content).unwrap_err().to_string();
        assert!(message.contains("8000 x 8000 pixels, more than 200 bytes can hold"), "{message}");
        // As good as nothing in it: deflate's best.
        GrayImage::from_pixel(2000, 2000, Luma([0])).save(path.with_extension("png")).unwrap();
        assert!(header(&path.with_extension("png")).unwrap().is_some());
    }
}
