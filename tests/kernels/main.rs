//! Every operation, every kernel variant, forced, against the f64 reference.

mod attention;
mod ceiling;
mod columns;
mod compare;
mod convolution;
mod correlate;
mod elementwise;
mod fit;
mod gather;
mod gemm;
mod layernorm;
mod loss;
mod normalise;
mod optimize;
mod pool;
mod recurrent;
mod replicas;
mod rows;
mod scene;
mod transport;
mod transpose;
