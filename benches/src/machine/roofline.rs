//! The roofline: no kernel is done before its bytes are read and its int8 products are made, each as fast as the machine
//! can.

/// What one execution of a kernel takes at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Bytes that are read from memory.
    pub bytes: usize,
    /// int8 multiply-accumulates.
    pub macs: usize,
}

/// What the machine can do at most, with some number of threads and one instruction set.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Roofs {
    /// Bytes per second that are read from memory.
    pub bandwidth: f64,
    /// int8 multiply-accumulates per second; `None` where that was not measured.
    pub int8: Option<f64>,
}

impl Roofs {
    /// The higher of each roof: what else the machine does only ever lowers a measurement.
    pub fn or_higher(self, other: Self) -> Self {
        Self {
            bandwidth: self.bandwidth.max(other.bandwidth),
            int8: self
                .int8
                .zip(other.int8)
                .map_or(self.int8.or(other.int8), |(a, b)| Some(a.max(b))),
        }
    }

    /// The seconds that `work` takes at least; `None` if it may be a matter of products whose roof is not known.
    pub fn least(&self, work: Work) -> Option<f64> {
        /// Products for each byte up to which reading takes longer, on whatever machine: one token and two bits.
        const FEW: usize = 5;
        let memory = work.bytes as f64 / self.bandwidth;
        match self.int8 {
            Some(peak) => Some(memory.max(work.macs as f64 / peak)),
            None => (work.macs <= FEW * work.bytes).then_some(memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_roof_limits() {
        let roofs = Roofs {
            bandwidth: 10.0,
            int8: Some(100.0),
        };
        let least = |bytes, macs| roofs.least(Work { bytes, macs });
        assert_eq!(least(20, 100), Some(2.0));
        assert_eq!(least(20, 300), Some(3.0));
        let unknown = Roofs {
            int8: None,
            bandwidth: 20.0,
        };
        let least = |bytes, macs| unknown.least(Work { bytes, macs });
        assert_eq!(least(20, 80), Some(1.0));
        assert_eq!(least(20, 300), None);
        let higher = Roofs {
            bandwidth: 20.0,
            int8: Some(100.0),
        };
        assert_eq!(roofs.or_higher(unknown), higher);
        assert_eq!(unknown.or_higher(roofs), higher);
    }
}
