//! The pixels of an image as a PNG inside an attribute.

use crate::explanation::Image;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Images that are smaller are enlarged, so that no program blurs them.
const ENLARGED: usize = 240;
/// Of larger ones every second, third, … pixel is taken.
const LARGEST: usize = 480;

/// The longest side of a small picture beside others, for screens with two pixels a unit.
const THUMBNAIL: usize = 144;

impl Image {
    /// A small picture as `data:image/png;base64,…`; nothing for an empty one.
    pub(crate) fn thumbnail(&self) -> Option<String> {
        scaled(self, 1, THUMBNAIL)
    }
}

/// The image as `data:image/png;base64,…`, enlarged or reduced to the nearest pixel; nothing for an empty one.
pub(super) fn data_url(image: &Image) -> Option<String> {
    scaled(image, ENLARGED, LARGEST)
}

fn scaled(image: &Image, enlarged: usize, largest: usize) -> Option<String> {
    let [width, height] = image.size;
    let longest = width.max(height);
    if width.min(height) == 0 || image.pixels.len() != width * height * image.channels {
        return None;
    }
    let (times, every) = (enlarged.div_ceil(longest), longest.div_ceil(largest));
    let size = |side: usize| side.div_ceil(every) * times;
    let (across, down) = (size(width), size(height));
    let mut pixels = Vec::with_capacity(across * down * image.channels);
    for y in 0..down {
        for x in 0..across {
            let at = (y / times * every * width + x / times * every) * image.channels;
            pixels.extend_from_slice(image.pixels.get(at..at + image.channels)?);
        }
    }
    let mut file = Vec::new();
    let mut encoder =
        png::Encoder::new(&mut file, u32::try_from(across).ok()?, u32::try_from(down).ok()?);
    encoder.set_color(if image.channels == 3 {
        png::ColorType::Rgb
    } else {
        png::ColorType::Grayscale
    });
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(format!("data:image/png;base64,{}", STANDARD.encode(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(image: &Image) -> (u32, u32, Vec<u8>) {
        let url = data_url(image).unwrap();
        let file = STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn small_images_are_enlarged_to_the_nearest_pixel() {
        let image = Image { size: [2, 1], channels: 3, pixels: vec![1, 2, 3, 7, 8, 9], grid: None };
        let (width, height, pixels) = decoded(&image);
        assert_eq!((width, height), (240, 120));
        let row = [[1, 2, 3].repeat(120), [7, 8, 9].repeat(120)].concat();
        assert_eq!(pixels, row.repeat(120));
    }

    #[test]
    fn large_images_lose_pixels() {
        let pixels = (0..1000 * 3).map(|i| (i % 1000 % 251) as u8).collect();
        let image = Image { size: [1000, 3], channels: 1, pixels, grid: None };
        let (width, height, pixels) = decoded(&image);
        assert_eq!((width, height), (334, 1));
        assert_eq!(&pixels[..3], [0, 3, 6]);
    }

    #[test]
    fn an_image_without_pixels_is_none() {
        assert_eq!(
            data_url(&Image { size: [0, 3], channels: 1, pixels: vec![], grid: None }),
            None
        );
        assert_eq!(
            data_url(&Image { size: [2, 3], channels: 1, pixels: vec![], grid: None }),
            None
        );
    }
}
