/// All benchmarks, in the order of `pdrop-eval list`.
package enum Benchmarks {
  package static let all: [any Benchmark] = [
    TextVQA(hasOCR: true), TextVQA(hasOCR: false), POPE(), GQA(), MME(), ScienceQA(), VQAv2(), VQAv2Validation(),
    VizWiz(), VizWizValidation(), SEEDBench(), MMBench(.english), MMBench(.chinese), TableBenchmark.docVQA,
    TableBenchmark.infoVQA, TableBenchmark.chartQA, TableBenchmark.ocrVQA, TableBenchmark.mmStar, TableBenchmark.ai2d,
    TinyTextVQA(),
  ]

  package static func named(_ name: String) -> (any Benchmark)? { all.first { $0.name == name } }
}
