//! Every operation, every kernel variant, forced, against the f64 reference.

mod compare;
mod gemm;
mod scene;
mod transport;
