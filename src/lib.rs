//! convergd stops the training of neural networks when their interactions have converged.

pub mod convergence;
pub mod interaction;
pub mod policy;
pub mod sparsify;
