//! The values of interest: windows and VOI LUTs (PS3.3 §C.11.2).

use crate::pixel::render::lut::Lut;

/// The transformation from values after the modality LUT to grey.
#[derive(Debug, Clone, PartialEq)]
pub enum Voi {
    /// From the lowest value to the highest: of those that are there, or, of at most 8 bits, of all that
    /// could be.
    Full,
    /// By a window.
    Window(Window),
    /// VOI LUT Sequence (0028,3010).
    Table(Lut),
}

/// A window on the values after the modality LUT (PS3.3 §C.11.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Window Center.
    pub center: f64,
    /// Window Width: more than 0; at least 1 for [`VoiFunction::Linear`].
    pub width: f64,
    /// VOI LUT Function.
    pub function: VoiFunction,
}

/// VOI LUT Function (0028,1056).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoiFunction {
    /// LINEAR.
    Linear,
    /// LINEAR_EXACT.
    LinearExact,
    /// SIGMOID.
    Sigmoid,
}

impl Window {
    /// Whether its function is defined for its width.
    pub fn is_usable(&self) -> bool {
        let least = if self.function == VoiFunction::Linear { 1.0 } else { f64::MIN_POSITIVE };
        self.center.is_finite() && self.width.is_finite() && self.width >= least
    }

    /// The grey of a value, from 0 (black) to 1 (white).
    pub fn level(&self, value: f64) -> f64 {
        let Self { center, width, function } = *self;
        match function {
            VoiFunction::Linear => {
                let (center, width) = (center - 0.5, width - 1.0);
                if value <= center - width / 2.0 {
                    0.0
                } else if value > center + width / 2.0 {
                    1.0
                } else {
                    (value - center) / width + 0.5
                }
            }
            VoiFunction::LinearExact => ((value - center) / width + 0.5).clamp(0.0, 1.0),
            VoiFunction::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_standard() {
        use VoiFunction::{Linear, LinearExact, Sigmoid};
        for (center, width, function, value, expected) in [
            // The notes of PS3.3 §C.11.2.1.2.1: a width of 1 is a threshold, 2^n-1 and 2^n the identity.
            (0.0, 1.0, Linear, -0.5, 0.0),
            (0.0, 1.0, Linear, -0.4, 1.0),
            (2048.0, 4096.0, Linear, 0.0, 0.0),
            (2048.0, 4096.0, Linear, 4095.0, 1.0),
            (2048.0, 4096.0, Linear, 819.0, 0.2),
            (0.0, 100.0, Linear, -50.0, 0.0),
            (0.0, 100.0, Linear, 49.0, 1.0),
            (0.0, 100.0, Linear, -0.5, 0.5),
            (0.0, 100.0, LinearExact, -50.0, 0.0),
            (0.0, 100.0, LinearExact, 50.0, 1.0),
            (0.0, 100.0, LinearExact, 25.0, 0.75),
            (0.0, 0.5, LinearExact, 0.0, 0.5),
            (40.0, 400.0, Sigmoid, 40.0, 0.5),
            (40.0, 400.0, Sigmoid, 140.0, 0.731_058_578_63),
            (40.0, 400.0, Sigmoid, -1e9, 0.0),
        ] {
            let level = Window { center, width, function }.level(value);
            assert!((level - expected).abs() < 1e-9, "{center} {width} {function:?} {value}: {level}");
        }
    }

    #[test]
    fn a_window_without_width_is_of_no_use() {
        for (width, function, is_usable) in [
            (1.0, VoiFunction::Linear, true),
            (0.9, VoiFunction::Linear, false),
            (0.9, VoiFunction::Sigmoid, true),
            (0.0, VoiFunction::LinearExact, false),
            (-1.0, VoiFunction::LinearExact, false),
            (f64::NAN, VoiFunction::Sigmoid, false),
        ] {
            assert_eq!(
                Window { center: 0.0, width, function }.is_usable(),
                is_usable,
                "{width} {function:?}"
            );
        }
    }
}
