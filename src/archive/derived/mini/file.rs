//! The file of a slice that was cut out, in Explicit VR Little Endian (PS3.10 §7).

use bytes::Bytes;
use serde_json::Value as Json;

use crate::archive::Error;
use crate::archive::derived::mini::CutOut;
use crate::archive::derived::mini::attributes::{
    CutAttributes, DataSetJson, SourceAttributes, SourceReference, change, text,
};
use crate::dicom::attributes::Vr;
use crate::dicom::tags;
use crate::dicom::transfer_syntax;
use crate::dicom::write::{self, DataSetSegment};
use crate::pixel::block_mean::BlockMean;
use crate::pixel::decode::native_bytes;

impl CutOut {
    /// Writes the file of a slice (from 0) with the attributes of its first source.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the attributes cannot be written.
    pub(super) fn write(
        &self,
        index: usize,
        attributes: &SourceAttributes,
        mean: BlockMean,
        is_lossy: bool,
    ) -> Result<Bytes, Error> {
        let block = &self.blocks[index];
        let (first, image) = (&block[0], mean.finish());
        let layout = &first.source.layout;
        let frames = layout.number_of_frames;
        let pixels = native_bytes(&image, layout.bits_allocated)?;
        let bits_stored = layout.bits_stored.max(image.precision as u16);
        let sources: Vec<SourceReference> = block
            .iter()
            .map(|slice| SourceReference {
                sop_class: slice.source.sop_class.clone(),
                instance: slice.source.instance.to_string(),
                frame: (slice.source.layout.number_of_frames > 1).then_some(slice.frame),
            })
            .collect();
        let instance = self.instance(index);
        let is_averaged = self.binning > 1;
        let mut data_set = attributes.of_frame(first.frame, frames);
        let cut = CutAttributes {
            series: self.series.as_str(),
            instance: instance.as_str(),
            number: index + 1,
            geometry: &self.geometry(block),
            side: self.binning,
            distance: self.distance.map(|distance| distance * f64::from(self.binning)),
            source_distance: self.distance.filter(|_| is_averaged),
            rows: image.shape.rows,
            columns: image.shape.columns,
            bits: [layout.bits_allocated, bits_stored],
            is_signed: image.is_signed,
            is_lossy,
            description: &self.description,
            sources: &sources,
        };
        change(&mut data_set, &cut);
        let class = text(&data_set, "00080016").unwrap_or_default();
        let mut file =
            write::file_head(&class, instance.as_str(), transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN);
        file.extend(encoded(data_set)?);
        let vr = Vr(if layout.bits_allocated > 8 { *b"OW" } else { *b"OB" });
        let header = write::element_header(tags::PIXEL_DATA, vr, pixels.len() as u64);
        let header = header.ok_or_else(|| Error::TooLarge("a slice of 4 GiB or more".into()))?;
        file.extend(header);
        file.extend_from_slice(&pixels);
        if !pixels.len().is_multiple_of(2) {
            file.push(0);
        }
        Ok(file.into())
    }
}

/// The bytes of a data set. Attributes of the source that cannot be written are left out.
fn encoded(data_set: DataSetJson) -> Result<Vec<u8>, Error> {
    let mut json = Json::Object(data_set);
    let written = write::write(&json).or_else(|faults| {
        if let Json::Object(attributes) = &mut json {
            faults.iter().for_each(|fault| drop(attributes.remove(&fault.tag.to_string())));
        }
        write::write(&json)
    });
    let written =
        written.map_err(|_| Error::Damaged("the attributes of an instance cannot be written".into()))?;
    let mut bytes = Vec::new();
    for segment in written.segments {
        if let DataSetSegment::Bytes(segment) = segment {
            bytes.extend(segment);
        }
    }
    Ok(bytes)
}
