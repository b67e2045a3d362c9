//! The hostile world: a simulated disk, clock and scheduler, a model, and the suite every engine passes.
