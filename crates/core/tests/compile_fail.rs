//! What must not compile: whoever skips a step of the pipeline has no proof to show for it.

#[test]
fn there_is_no_proof_without_the_act() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
