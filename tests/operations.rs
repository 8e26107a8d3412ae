//! Every operation refuses operands that do not meet, and says which operation and why.

use ldfa_gpu::ops::*;

/// Tensors of any shape, so that a case is one line.
struct Table(Recording);

impl Table {
    fn new() -> Table {
        Table(Recording::new(2))
    }

    fn floats(&mut self, rows: u32, cols: u32) -> View {
        self.0.scratch("floats", rows, cols)
    }

    fn words(&mut self, rows: u32, cols: u32) -> View {
        self.0.scratch_of("words", rows, cols, Dtype::U32)
    }

    fn bytes(&mut self, rows: u32, cols: u32) -> View {
        self.0.shared("bytes", rows, cols, Dtype::U8)
    }
}

fn accepts(op: impl Into<Op>) {
    let op = op.into();
    assert_eq!(op.check(), Ok(()));
}

/// The message names the operation, the broken rule, and each operand with its shape.
fn refuses(op: impl Into<Op>, name: &str, rule: &str) {
    let op = op.into();
    let error = op.check().expect_err(rule);
    let text = error.to_string();
    assert_eq!(error.op, name);
    assert!(text.starts_with(&format!("{name}: ")), "{text}");
    assert!(text.contains(rule), "{text} should say: {rule}");
    for operand in op.operands() {
        assert!(text.contains(&format!("{} {}", operand.name, operand.tensor.shape)), "{text} lacks {}", operand.name);
    }
}

#[test]
fn products_need_one_inner_dimension() {
    let mut t = Table::new();
    let (a, b, out) = (t.floats(2, 3), t.floats(3, 4), t.floats(2, 4));
    let (a_t, b_t) = (t.floats(3, 2), t.floats(4, 3));
    accepts(Gemm::nn(a, b, out));
    accepts(Gemm::nt(a, b_t, out));
    accepts(Gemm::tn(a_t, b, out));
    accepts(Gemm { transpose_a: true, transpose_b: true, ..Gemm::nn(a_t, b_t, out) });
    for wrong in [Gemm::nn(a, b_t, out), Gemm::nt(a, b, out), Gemm::tn(a, b, out)] {
        refuses(wrong, "gemm", "the inner dimensions of a and b differ");
    }
    refuses(Gemm::nn(a, b, b), "gemm", "out must be rows of a x columns of b");
}

#[test]
fn epilogues_need_operands_of_the_products_shape() {
    let mut t = Table::new();
    let (a, b, out) = (t.floats(2, 3), t.floats(3, 4), t.floats(2, 4));
    let (bias, wrong) = (t.floats(1, 4), t.floats(4, 2));
    let with = |epilogue| Gemm { epilogue, ..Gemm::nn(a, b, out) };
    let full = Epilogue {
        addend: Some((out, 0.5)),
        bias: Some(bias),
        clamp: Some(1.0),
        activation: Some(Activation::Relu),
        gate: Some((Activation::Relu, out)),
    };
    accepts(with(full));
    refuses(with(Epilogue { addend: Some((wrong, 1.0)), ..full }), "gemm", "addend must have the shape of out");
    refuses(with(Epilogue { gate: Some((Activation::Gelu, wrong)), ..full }), "gemm", "saved must have the shape");
    refuses(with(Epilogue { bias: Some(out), ..full }), "gemm", "bias must be one row of out's columns");
}

#[test]
fn transports_need_one_rank() {
    let mut t = Table::new();
    let (delta, p, q) = (t.floats(5, 4), t.floats(4, 2), t.floats(2, 3));
    let (y, out) = (t.floats(5, 2), t.floats(5, 3));
    let op = Transport { delta, p, q, y, out, epilogue: Epilogue::default() };
    accepts(op);
    refuses(Transport { delta: y, ..op }, "transport", "p must have as many rows as delta has columns");
    refuses(Transport { q: p, ..op }, "transport", "p and q must have the same rank");
    refuses(Transport { y: out, ..op }, "transport", "y must be rows of delta x rank");
    refuses(Transport { out: y, ..op }, "transport", "out must be rows of delta x columns of q");
    let biased = Epilogue { bias: Some(t.floats(1, 3)), ..Epilogue::default() };
    refuses(Transport { epilogue: biased, ..op }, "transport", "takes no bias and scales no addend");
    let added = |scale| Epilogue { addend: Some((out, scale)), ..Epilogue::default() };
    let out = t.floats(5, 3);
    accepts(Transport { out, epilogue: added(1.0), ..op });
    refuses(Transport { out, epilogue: added(0.5), ..op }, "transport", "takes no bias and scales no addend");
}

#[test]
fn elementwise_operations_need_one_shape() {
    let mut t = Table::new();
    let (x, out, turned) = (t.floats(2, 3), t.floats(2, 3), t.floats(3, 2));
    let f = Activation::Relu;
    accepts(Activate { x, out, f });
    refuses(Activate { x, out: turned, f }, "activate", "x and out must have one shape");
    accepts(Gate { x, saved: x, out, f });
    refuses(Gate { x, saved: turned, out, f }, "gate", "x, saved and out must have one shape");
    accepts(Add { a: x, b: x, out });
    refuses(Add { a: x, b: turned, out }, "add", "a, b and out must have one shape");
    let dropout = Dropout { x, out, drop: 0.5, stream: 0, together: 1 };
    accepts(dropout);
    refuses(Dropout { out: turned, ..dropout }, "dropout", "x and out must have one shape");
    for drop in [1.0, -0.1, f64::NAN] {
        refuses(Dropout { drop, ..dropout }, "dropout", "must lie in [0, 1)");
    }
    accepts(Dropout { together: 3, ..dropout });
    for together in [0, 4] {
        refuses(Dropout { together, ..dropout }, "dropout", "must be whole groups of one or more");
    }
}

#[test]
fn reductions_need_a_row_for_each_statistic() {
    let mut t = Table::new();
    let (x, one, two) = (t.floats(5, 3), t.floats(1, 3), t.floats(2, 3));
    accepts(ColumnSum { x, out: one, accumulate: false });
    refuses(ColumnSum { x, out: two, accumulate: false }, "column-sum", "out must be one row of x's columns");
    let gradient = ScaleGradient { error: x, x, out: one, accumulate: true };
    accepts(gradient);
    accepts(ScaleGradient { out: two, accumulate: false, ..gradient });
    refuses(ScaleGradient { error: two, ..gradient }, "scale-gradient", "error and x must have one shape");
    refuses(ScaleGradient { out: t.floats(1, 5), ..gradient }, "scale-gradient", "out must be rows of x's columns");
    refuses(ScaleGradient { out: two, ..gradient }, "scale-gradient", "the sum of the splits is added to");
    let four = ScaleGradient { out: t.floats(4, 3), accumulate: false, ..gradient };
    refuses(four, "scale-gradient", "a split would be empty");
    accepts(Moments { x, out: two });
    refuses(Moments { x, out: one }, "moments", "out must be two rows of x's columns");
}

#[test]
fn rows_meet_rows_of_their_columns() {
    let mut t = Table::new();
    let (x, out, turned) = (t.floats(6, 3), t.floats(6, 3), t.floats(3, 6));
    let (row, two) = (t.floats(1, 3), t.floats(2, 3));
    let add = AddRow { x, row, out };
    accepts(add);
    refuses(AddRow { out: turned, ..add }, "add-row", "x and out must have one shape");
    refuses(AddRow { row: two, ..add }, "add-row", "row must be one row of x's columns");
    let scale = ScaleColumns { x, row, out };
    accepts(scale);
    refuses(ScaleColumns { out: turned, ..scale }, "scale-columns", "x and out must have one shape");
    refuses(ScaleColumns { row: two, ..scale }, "scale-columns", "row must be one row of x's columns");
    // Two rows of each of three samples, among three.
    let place = PlaceRows { x: x.by_rows(2), out: t.floats(9, 3), first: 1, fill: Some(row) };
    accepts(place);
    refuses(PlaceRows { out: turned, ..place }, "place-rows", "x must be a matrix a sample, of out's columns");
    refuses(PlaceRows { out: t.floats(10, 3), ..place }, "place-rows", "out must have as many samples as x");
    refuses(PlaceRows { first: 2, ..place }, "place-rows", "the rows of x must fit a sample of out");
    refuses(PlaceRows { fill: Some(two), ..place }, "place-rows", "fill must be one row of out's columns");
}

#[test]
fn normalisation_needs_moments_and_rows_of_the_columns() {
    let mut t = Table::new();
    let (x, out, turned) = (t.floats(5, 3), t.floats(5, 3), t.floats(3, 5));
    let (row, moments, fault) = (t.floats(1, 3), t.floats(2, 3), t.words(1, 1));
    let epsilon = 1e-5;
    let forward = Normalise { x, moments, gamma: row, beta: row, out, epsilon, activation: None };
    accepts(forward);
    refuses(Normalise { out: turned, ..forward }, "normalise", "x and out must have one shape");
    refuses(Normalise { moments: row, ..forward }, "normalise", "moments must be two rows");
    refuses(Normalise { beta: moments, ..forward }, "normalise", "gamma and beta must be rows");

    let gradients =
        NormaliseGradients { error: out, x, moments, grad_gamma: row, grad_beta: row, totals: None, epsilon };
    accepts(NormaliseGradients { totals: Some([row, row]), ..gradients });
    refuses(
        NormaliseGradients { totals: Some([row, moments]), ..gradients },
        "normalise-gradients",
        "the totals must be",
    );
    accepts(gradients);
    refuses(NormaliseGradients { error: turned, ..gradients }, "normalise-gradients", "must have one shape");
    refuses(NormaliseGradients { moments: x, ..gradients }, "normalise-gradients", "moments must be two rows");
    refuses(NormaliseGradients { grad_beta: x, ..gradients }, "normalise-gradients", "the gradients must be rows");

    let backward =
        NormaliseBackward { error: x, x, moments, gamma: row, grad_gamma: row, grad_beta: row, out, epsilon };
    accepts(backward);
    refuses(NormaliseBackward { out: turned, ..backward }, "normalise-backward", "must have one shape");
    refuses(NormaliseBackward { moments: row, ..backward }, "normalise-backward", "moments must be two rows");
    refuses(NormaliseBackward { gamma: moments, ..backward }, "normalise-backward", "gamma and the gradients");

    let track = TrackMoments { moments, running: moments, fault, momentum: 0.1, rows: 5 };
    accepts(track);
    refuses(TrackMoments { running: row, ..track }, "track-moments", "must have one shape");
    refuses(TrackMoments { moments: x, running: x, ..track }, "track-moments", "moments must be two rows");
    refuses(TrackMoments { rows: 1, ..track }, "track-moments", "needs two rows");
}

#[test]
fn layer_norm_needs_moments_of_the_rows_and_a_scale_of_the_columns() {
    let mut t = Table::new();
    let (x, out, turned) = (t.floats(5, 3), t.floats(5, 3), t.floats(3, 5));
    let (row, moments, of_columns) = (t.floats(1, 3), t.floats(5, 2), t.floats(2, 3));
    let forward = LayerNorm { x, gamma: row, beta: row, out, moments, epsilon: 1e-5 };
    accepts(forward);
    refuses(LayerNorm { out: turned, ..forward }, "layer-norm", "x and out must have one shape");
    refuses(LayerNorm { gamma: of_columns, ..forward }, "layer-norm", "gamma and beta must be rows");
    refuses(LayerNorm { moments: of_columns, ..forward }, "layer-norm", "moments must be two columns");
    for epsilon in [-1e-5, f64::NAN] {
        refuses(LayerNorm { epsilon, ..forward }, "layer-norm", "epsilon must not be negative");
    }

    let gradients = LayerNormGradients { error: out, x, moments, grad_gamma: row, grad_beta: row, accumulate: false };
    let (splits, many) = (t.floats(3, 3), t.floats(4, 3));
    accepts(gradients);
    accepts(LayerNormGradients { grad_gamma: splits, grad_beta: splits, ..gradients });
    refuses(LayerNormGradients { error: turned, ..gradients }, "layer-norm-gradients", "must have one shape");
    refuses(LayerNormGradients { moments: x, ..gradients }, "layer-norm-gradients", "row_moments must be two columns");
    refuses(LayerNormGradients { grad_beta: splits, ..gradients }, "layer-norm-gradients", "the gradients must be");
    let four = LayerNormGradients { grad_gamma: many, grad_beta: many, ..gradients };
    refuses(four, "layer-norm-gradients", "a split would be empty");

    let backward = LayerNormBackward { error: x, x, moments, gamma: row, addend: Some(x), out };
    accepts(backward);
    refuses(LayerNormBackward { out: turned, ..backward }, "layer-norm-backward", "must have one shape");
    refuses(LayerNormBackward { moments: row, ..backward }, "layer-norm-backward", "row_moments must be two columns");
    refuses(LayerNormBackward { addend: Some(row), ..backward }, "layer-norm-backward", "addend must have the shape");
    refuses(LayerNormBackward { gamma: moments, ..backward }, "layer-norm-backward", "gamma must be a row");
}

#[test]
fn attention_needs_whole_samples_and_whole_heads() {
    let mut t = Table::new();
    let (qkv, out, stats) = (t.floats(10, 36), t.floats(10, 12), t.floats(10, 3));
    let heads = Heads { count: 3, length: 5, causal: false, drop: 0.0, stream: 0 };
    let forward = Attention { qkv, out, stats, heads };
    let with = |heads| Attention { heads, ..forward };
    accepts(forward);
    accepts(with(Heads { causal: true, drop: 0.9, length: 10, ..heads }));
    refuses(Attention { qkv: out, ..forward }, "attention", "qkv must have queries, keys and values side by side");
    refuses(with(Heads { length: 4, ..heads }), "attention", "rows must be whole samples of the length");
    refuses(with(Heads { length: 0, ..heads }), "attention", "there must be a head and a position");
    refuses(with(Heads { count: 0, ..heads }), "attention", "there must be a head and a position");
    refuses(with(Heads { count: 5, ..heads }), "attention", "columns must be whole heads");
    refuses(with(Heads { count: 4, ..heads }), "attention", "there must be one statistic a row and head");
    for drop in [1.0, -0.1, f64::NAN] {
        refuses(with(Heads { drop, ..heads }), "attention", "must lie in [0, 1)");
    }
    let (wide, result, one) = (t.floats(10, 3 * 129), t.floats(10, 129), t.floats(10, 1));
    let wide = Attention { qkv: wide, out: result, stats: one, heads: Heads { count: 1, ..heads } };
    refuses(wide, "attention", "a head has 1 to 128 columns, not 129");

    let (dots, gradient) = (t.floats(10, 3), t.floats(10, 36));
    let queries = AttentionQueries { error: out, qkv, out, stats, dots, gradient, heads };
    accepts(queries);
    refuses(
        AttentionQueries { error: stats, ..queries },
        "attention-queries",
        "error and attended must have one shape",
    );
    refuses(AttentionQueries { gradient: out, ..queries }, "attention-queries", "qkv and its gradient");
    refuses(AttentionQueries { dots: one, ..queries }, "attention-queries", "there must be one dot a statistic");
    refuses(AttentionQueries { stats: one, ..queries }, "attention-queries", "one statistic a row and head");

    let keys = AttentionKeys { error: out, qkv, stats, dots, gradient, heads };
    accepts(keys);
    refuses(AttentionKeys { error: stats, ..keys }, "attention-keys", "qkv must have queries, keys and values");
    refuses(AttentionKeys { gradient: out, ..keys }, "attention-keys", "qkv and its gradient");
    refuses(AttentionKeys { dots: one, ..keys }, "attention-keys", "there must be one dot a statistic");
}

#[test]
fn recurrences_need_whole_sequences_and_a_row_for_every_gate() {
    let mut t = Table::new();
    let (a, weight, bias, out) = (t.floats(10, 12), t.floats(12, 4), t.floats(1, 12), t.floats(10, 4));
    let (kept, narrow) = (t.floats(10, 20), t.floats(10, 5));
    let steps = Steps::all(5);
    let forward = Recurrence { a, weight, bias, out, saved: Some(kept), cell: Cell::Gru, steps };
    accepts(forward);
    accepts(Recurrence { steps: Steps { first: 3, count: 2, ..steps }, ..forward });
    let name = "recurrence";
    refuses(Recurrence { steps: Steps::all(4), ..forward }, name, "whole sequences of the length");
    refuses(Recurrence { steps: Steps { first: 3, count: 3, ..steps }, ..forward }, name, "some of the sequence's");
    refuses(Recurrence { steps: Steps { count: 0, ..steps }, ..forward }, name, "some of the sequence's");
    refuses(Recurrence { a: out, ..forward }, name, "of every unit each gate");
    refuses(Recurrence { cell: Cell::Lstm, ..forward }, name, "of every unit each gate");
    refuses(Recurrence { weight: out, ..forward }, name, "a row for every gate of every unit");
    refuses(Recurrence { bias: out, ..forward }, name, "bias must be a row");
    refuses(Recurrence { saved: None, ..forward }, name, "what the cell keeps");
    refuses(Recurrence { saved: Some(out), ..forward }, name, "what the cell keeps");

    let (gates, hidden, carried) = (t.floats(10, 12), t.floats(10, 12), t.floats(2, 4));
    let (p, q, y) = (t.floats(12, 5), t.floats(5, 4), narrow);
    let backward = RecurrenceBackward {
        error: out,
        saved: kept,
        gates,
        hidden: Some(hidden),
        carried: Some(carried),
        through: StateWeight::Whole(weight),
        clamp: None,
        window: None,
        cell: Cell::Gru,
        steps,
    };
    let factored = |p, q, y| RecurrenceBackward { through: StateWeight::Factored { p, q, y }, ..backward };
    accepts(backward);
    accepts(factored(p, q, y));
    let name = "recurrence-backward";
    refuses(RecurrenceBackward { window: Some(0), ..backward }, name, "one step at least");
    refuses(RecurrenceBackward { hidden: None, ..backward }, name, "a GRU has errors of its hidden part");
    refuses(RecurrenceBackward { carried: None, ..backward }, name, "a row a sample and a column a unit");
    refuses(RecurrenceBackward { carried: Some(out), ..backward }, name, "a row a sample and a column a unit");
    refuses(RecurrenceBackward { saved: out, ..backward }, name, "what the cell keeps");
    refuses(RecurrenceBackward { gates: out, ..backward }, name, "of every unit each gate");
    refuses(RecurrenceBackward { through: StateWeight::Whole(p), ..backward }, name, "a row for every gate");
    refuses(factored(weight, q, y), name, "q p's columns as rows");
    refuses(factored(p, q, out), name, "y a row a state");
    refuses(RecurrenceBackward { cell: Cell::Rnn, hidden: None, gates: out, ..backward }, name, "error and states");
}

#[test]
fn pools_need_whole_images_of_the_windows_size() {
    let mut t = Table::new();
    let window = Window::new([4, 6], [2, 2], [2, 2], [0, 0]).unwrap();
    let (pixels, positions, winners) = (t.floats(48, 3), t.floats(12, 3), t.words(12, 3));
    let max = MaxPool { x: pixels, out: positions, winners, window };
    accepts(max);
    refuses(MaxPool { x: positions, ..max }, "max-pool", "(batch pixels) on one side");
    refuses(MaxPool { x: t.floats(50, 3), ..max }, "max-pool", "(batch pixels) on one side");
    refuses(MaxPool { x: t.floats(48, 4), ..max }, "max-pool", "the same channels");
    refuses(MaxPool { winners: t.words(3, 12), ..max }, "max-pool", "out and winners must have one shape");
    refuses(MaxPool { winners: positions, ..max }, "max-pool", "winners must be words");
    let wide = Window::new([4, 6], [3, 2], [1, 1], [2, 0]).unwrap();
    refuses(MaxPool { window: wide, ..max }, "max-pool", "at most half of its kernel");
    let forged = Window { grid: [4, 3], ..window };
    refuses(MaxPool { window: forged, ..max }, "max-pool", "the window has 2 x 3 positions, not 4 x 3");
    refuses(MaxPool { window: Window { stride: [0, 2], ..window }, ..max }, "max-pool", "a stride of 0 x 2 is empty");

    let backward = MaxPoolBackward { error: positions, winners, out: pixels, window, gate: None };
    accepts(backward);
    refuses(MaxPoolBackward { error: pixels, ..backward }, "max-pool-backward", "(batch pixels) on one side");
    refuses(MaxPoolBackward { winners: t.words(48, 3), ..backward }, "max-pool-backward", "must have one shape");
    refuses(MaxPoolBackward { winners: positions, ..backward }, "max-pool-backward", "won must be words");
    let gate = Some((Activation::Relu, positions));
    refuses(MaxPoolBackward { gate, ..backward }, "max-pool-backward", "saved must have the shape of out");

    let average = AveragePool { x: pixels, out: positions, window };
    accepts(average);
    refuses(AveragePool { out: pixels, ..average }, "average-pool", "(batch pixels) on one side");
    let backward = AveragePoolBackward { error: positions, out: pixels, window, gate: None };
    accepts(backward);
    refuses(AveragePoolBackward { out: t.floats(48, 2), ..backward }, "average-pool-backward", "the same channels");
}

#[test]
fn transposed_blocks_need_whole_blocks() {
    let mut t = Table::new();
    let (x, out) = (t.floats(12, 5), t.floats(3, 20));
    let op = TransposeBlocks { x, out, rows: 4, cols: 5 };
    accepts(op);
    assert_eq!(op.blocks(), 3);
    accepts(TransposeBlocks { x: out, out: x, rows: 5, cols: 4 });
    refuses(TransposeBlocks { out: t.floats(3, 21), ..op }, "transpose-blocks", "as many elements");
    refuses(TransposeBlocks { rows: 7, ..op }, "transpose-blocks", "whole blocks of rows x cols");
    refuses(TransposeBlocks { cols: 0, ..op }, "transpose-blocks", "whole blocks of rows x cols");
}

#[test]
fn losses_need_columns_of_their_rows() {
    let mut t = Table::new();
    let (outputs, delta, turned) = (t.floats(4, 3), t.floats(4, 3), t.floats(3, 4));
    let (labels, losses, short) = (t.words(4, 1), t.floats(4, 1), t.floats(3, 1));
    let entropy = SoftmaxCrossEntropy { logits: outputs, labels, smoothing: 0.0, delta, losses, correct: losses };
    accepts(entropy);
    refuses(SoftmaxCrossEntropy { delta: turned, ..entropy }, "softmax-cross-entropy", "must have one shape");
    refuses(SoftmaxCrossEntropy { losses: short, ..entropy }, "softmax-cross-entropy", "must be samples x positions");
    for smoothing in [-0.1, 1.0, f64::NAN] {
        refuses(SoftmaxCrossEntropy { smoothing, ..entropy }, "softmax-cross-entropy", "smoothing must lie in [0, 1)");
    }
    let squares = MeanSquaredError { outputs, labels, delta, losses, correct: losses };
    accepts(squares);
    refuses(MeanSquaredError { delta: turned, ..squares }, "mean-squared-error", "must have one shape");
    refuses(MeanSquaredError { correct: outputs, ..squares }, "mean-squared-error", "must be samples x positions");
    accepts(OneHot { labels, out: outputs });
    refuses(OneHot { labels, out: turned }, "one-hot", "must be samples x positions");
    // Two samples of two positions each.
    let (each, loss_of_each) = (t.words(2, 2), t.floats(2, 2));
    accepts(SoftmaxCrossEntropy { labels: each, losses: loss_of_each, correct: loss_of_each, ..entropy });
    accepts(OneHot { labels: each, out: outputs });
    refuses(SoftmaxCrossEntropy { labels: each, ..entropy }, "softmax-cross-entropy", "must be samples x positions");
    let (numbers, of_each) = (t.words(4, 3), t.words(2, 6));
    let (scale, tolerance) = (0.1, 0.5);
    let distance = SquaredDistance { outputs, labels: numbers, scale, tolerance, delta, losses, correct: losses };
    accepts(distance);
    accepts(SquaredDistance { labels: of_each, losses: loss_of_each, correct: loss_of_each, ..distance });
    refuses(SquaredDistance { labels, ..distance }, "squared-distance", "must be one an output");
    refuses(SquaredDistance { labels: of_each, ..distance }, "squared-distance", "must be one an output");
    refuses(SquaredDistance { delta: turned, ..distance }, "squared-distance", "must have one shape");
    refuses(SquaredDistance { correct: short, ..distance }, "squared-distance", "must be samples x positions");
    for tolerance in [0.0, -1.0, f64::NAN] {
        refuses(SquaredDistance { tolerance, ..distance }, "squared-distance", "tolerance must be larger than 0");
    }

    let (metrics, fault) = (t.floats(1, 3), t.words(1, 1));
    let tally = Tally { losses, correct: losses, metrics, fault };
    accepts(tally);
    refuses(Tally { correct: short, ..tally }, "tally", "losses and correct must have one shape");
    refuses(Tally { metrics: losses, ..tally }, "tally", "metrics must have three elements");
    refuses(Tally { fault: labels, ..tally }, "tally", "fault must have one element");
}

#[test]
fn updates_need_the_moments_of_their_rule() {
    let mut t = Table::new();
    let (values, longer, square) = (t.floats(1, 6), t.floats(1, 7), t.floats(2, 3));
    let fault = t.words(1, 1);
    let adam = |amsgrad, decoupled| Update::Adam { betas: (0.9, 0.999), epsilon: 1e-8, amsgrad, decoupled };
    let rules = [
        (Update::Sgd { momentum: 0.0 }, 0, "sgd"),
        (Update::Sgd { momentum: 0.9 }, 1, "sgd"),
        (adam(false, false), 2, "adam"),
        (adam(true, true), 3, "adamw"),
        (Update::RmsProp { alpha: 0.99, epsilon: 1e-8 }, 1, "rmsprop"),
    ];
    for (update, kept, name) in rules {
        let moments = |count| [0, 1, 2].map(|at| (at < count).then_some(values));
        let op = |count| {
            let moments = moments(count);
            Optimize { update, group: 0, clamp: None, values, gradients: values, moments, fault }
        };
        accepts(op(kept));
        refuses(op((kept + 1) % 4), name, "the rule keeps another number of moments");
        refuses(Optimize { gradients: longer, ..op(kept) }, name, "must have one shape");
    }
    let sgd = Update::Sgd { momentum: 0.0 };
    let op =
        Optimize { update: sgd, group: 0, clamp: None, values: square, gradients: square, moments: [None; 3], fault };
    refuses(op, "sgd", "a parameter group is one row");
}

#[test]
fn batches_need_bytes_of_the_images_size() {
    let mut t = Table::new();
    let (images, classes, permutation) = (t.bytes(9, 12), t.words(9, 1), t.words(1, 9));
    let (out, labels) = (t.floats(4, 12), t.words(4, 1));
    let op = Gather {
        images,
        classes,
        permutation,
        out,
        labels,
        first: 0,
        skip: 0,
        image: [2, 2, 3],
        encoding: Encoding::Scaled { scale: [1.0; 4], shift: [0.0; 4] },
        augment: Augment::default(),
    };
    accepts(op);
    let ten = t.bytes(9, 10);
    refuses(Gather { images: t.floats(9, 12), ..op }, "gather", "images must be bytes");
    refuses(Gather { images: ten, ..op }, "gather", "must be height x width x channels");
    refuses(Gather { image: [1, 2, 6], ..op }, "gather", "images have one to four channels");
    accepts(Gather { out: t.floats(16, 3), ..op });
    refuses(Gather { out: t.floats(16, 4), ..op }, "gather", "out must have for every sample");
    refuses(Gather { out: t.floats(12, 4), ..op }, "gather", "out must have for every sample");
    refuses(Gather { labels: classes, ..op }, "gather", "out must have for every sample");
    refuses(Gather { labels: t.words(4, 2), ..op }, "gather", "as many columns as classes");
    accepts(Gather { labels: t.words(4, 2), classes: t.words(9, 2), ..op });
    refuses(Gather { classes: labels, ..op }, "gather", "a row of classes an image");
    let tokens = Gather { encoding: Encoding::OneHot(5), out: t.floats(16, 15), ..op };
    accepts(tokens);
    accepts(Gather { out: t.floats(4, 60), ..tokens });
    refuses(Gather { out, ..tokens }, "gather", "out must have for every sample");
    let flipped = Augment { flip: true, ..Augment::default() };
    refuses(Gather { augment: flipped, ..tokens }, "gather", "one-hot cannot be changed");
    let learned = Augment { autoaugment: Some(AutoAugment::Cifar10), ..Augment::default() };
    accepts(Gather { augment: learned, ..op });
    refuses(Gather { augment: Augment { rotation: 5.0, ..learned }, ..op }, "gather", "autoaugment takes bytes");
    refuses(
        Gather { augment: learned, image: [2, 6, 1], out: t.floats(4, 12), ..op },
        "gather",
        "three channels, these have 1",
    );
    let (images, out) = (t.bytes(9, 45 * 45 * 3), t.floats(4, 45 * 45 * 3));
    let large = Gather { images, out, image: [45, 45, 3], ..op };
    accepts(large);
    refuses(Gather { augment: learned, ..large }, "gather", "at most 2000 pixels");
}

#[test]
fn a_recording_takes_no_operation_that_would_be_refused() {
    let mut t = Table::new();
    let (x, out) = (t.floats(2, 3), t.floats(1, 3));
    let error = t.0.push(Activate { x, out, f: Activation::Relu }).expect_err("shapes differ");
    assert_eq!(error.to_string(), "activate: x and out must have one shape (x 2*2x3, out 2*1x3)");
    assert!(t.0.entries(Phase::Train).is_empty());
}

#[test]
fn ceilings_take_four_elements_at_once() {
    let mut t = Table::new();
    let (x, out, other, odd) = (t.floats(3, 8), t.floats(3, 8), t.floats(8, 3), t.floats(3, 5));
    accepts(Duplicate { x, out });
    accepts(Chain { x, out, length: 16 });
    refuses(Duplicate { x, out: other }, "copy", "x and out must have one shape");
    refuses(Duplicate { x: odd, out: odd }, "copy", "the elements of a replica must be a multiple of four");
    refuses(Chain { x: odd, out: odd, length: 16 }, "chain", "must be a multiple of four");
    refuses(Chain { x, out, length: 12 }, "chain", "length must be a multiple of eight");
}
