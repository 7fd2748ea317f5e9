//! Which transform is done, and with which instructions.

#[cfg(target_arch = "x86_64")]
use super::butterfly::Vectors;

/// A transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Zeta,
    Moebius,
    Adjoint,
    Or,
}

/// Instructions that a transform is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// What the compiler makes of it.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Rows of half a cache line are taken in the vectors of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    /// The fastest that the processor has.
    #[inline]
    pub(super) fn best() -> Self {
        Self::fastest_first()
            .find(|instructions| instructions.are_there())
            .unwrap_or(Self::Portable)
    }

    /// All that the processor has, the slowest first.
    #[cfg(test)]
    pub(super) fn available() -> impl Iterator<Item = Self> {
        let all: Vec<_> = Self::fastest_first().filter(|with| with.are_there()).collect();
        all.into_iter().rev()
    }

    fn fastest_first() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        return [Self::Avx512, Self::Avx2, Self::Portable].into_iter();
        #[cfg(not(target_arch = "x86_64"))]
        return [Self::Portable].into_iter();
    }

    pub(super) fn are_there(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Vectors::Avx2.are_there(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Vectors::Avx2.are_there() && Vectors::Avx512.are_there(),
        }
    }
}
