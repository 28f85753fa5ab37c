import BatchInference
import Foundation
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Examples in the documentation against their compiled copies in this folder.
@Suite struct ExampleCopyTests {
  /// The compiled copy of examples.
  private struct Copy {
    let imports: [String]
    let code: [String]

    init(_ name: String) throws {
      let file = DocumentedExample(
        place: name, lines: try DocumentedExample.lines(of: "Tests/DocumentationTests/\(name)"))
      (imports, code) = (file.imports, file.code)
    }

    /// Whether all lines of an example occur, one after the other.
    func contains(_ example: DocumentedExample) -> Bool {
      let lines = example.code
      return code.indices.contains { code[$0...].starts(with: lines) }
    }
  }

  @Test func `every example of a doc comment is compiled`() throws {
    let copy = try Copy("Examples.swift")
    let examples = try DocumentedExample.inDocComments()
    for example in examples {
      #expect(copy.contains(example), "Examples.swift has no copy of \(example.place):\n\(example.lines)")
    }
    // One function for each, so that no copy outlives its example.
    #expect(copy.code.count { $0.hasPrefix("func ") } == examples.count)
  }

  @Test(arguments: [
    "Sources/PDrop/VisionLanguageModel.swift", "Sources/PDrop/Session.swift", "Sources/PDrop/Request.swift",
    "Sources/PDrop/GenerationOptions.swift", "Sources/PDrop/OutputConstraint.swift", "Sources/PDrop/FeatureCache.swift",
    "Sources/PDrop/PromptCacheOptions.swift", "Sources/PDrop/KeptMap.swift",
    "Sources/PDrop/ChatTemplate.swift", "Sources/PDrop/ModelQuantizer.swift",
    "Sources/TokenDropping/Policies.swift", "Sources/Tokenizers/Tokenizer.swift", "Sources/BatchInference/Batch.swift",
  ])
  func `entry types have an example`(file: String) throws {
    let places = try DocumentedExample.inDocComments().map(\.place)
    #expect(places.contains { $0.hasPrefix(file + ":") })
  }

  /// The pages with Swift examples, and the files of their copies; all other pages have none.
  private static let copies = ["README.md": "ReadmeExample.swift", "docs/batch.md": "BatchPageExample.swift"]

  @Test func `the examples of README and docs are compiled with their imports`() throws {
    for page in try ["README.md"] + DocumentedExample.files("md", under: ["docs"]) {
      let examples = try DocumentedExample.inMarkdown(page)
      #expect(examples.count == (Self.copies[page] == nil ? 0 : 1), "\(page)")
      for example in examples {
        guard let name = Self.copies[page] else { continue }
        let copy = try Copy(name)
        #expect(copy.contains(example), "\(name) has no copy of \(example.place)")
        #expect(copy.imports == example.imports)
      }
    }
  }

  @Test func `examples of the documentation pages are compiled`() throws {
    let copy = try Copy("Examples.swift")
    let examples = try DocumentedExample.inMarkdown("Sources/PDrop/PDrop.docc/PDrop.md")
    #expect(examples.count == 1)
    for example in examples { #expect(copy.contains(example), "Examples.swift has no copy of \(example.place)") }
  }

  @Test func `the tutorial's steps are compiled with their imports`() throws {
    let copy = try Copy("TutorialExample.swift")
    let steps = try DocumentedExample.inTutorial()
    #expect(steps.count >= 2)
    for step in steps {
      #expect(copy.contains(step), "TutorialExample.swift has no copy of \(step.place)")
      #expect(copy.imports == step.imports, "\(step.place)")
    }
  }
}

/// The examples that need only the bundled model; paths in them start at the root of the package.
@Suite(
  .enabled(if: FileManager.default.fileExists(atPath: "Models/tiny-textvqa"), "not run from the root of the package"))
struct ExampleTests {
  private static func model() throws -> VisionLanguageModel {
    try VisionLanguageModel(directory: "Models/tiny-textvqa")
  }

  /// A folder that is removed after `body`.
  private static func withTemporaryFolder<Value>(_ body: (String) throws -> Value) throws -> Value {
    let folder = FileManager.default.temporaryDirectory.appending(path: "pdrop-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder.path)
  }

  @Test func `answers without an image`() throws {
    let printed = try PrintedText.of { try visionLanguageModelExample() }
    #expect(printed.contains(" 2048 "))
  }

  @Test func `answers a question about an image`() throws {
    let session = try PrintedText.of { try sessionExample() }
    #expect(session == "635.99[576, 288, 144, 72]\n")
    let request = try PrintedText.of { try requestExample(Self.model()) }
    #expect(request == "635.99")
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `writes and loads a pair of GGUF files`() throws {
    try Self.withTemporaryFolder { folder in
      let printed = try PrintedText.of { try modelQuantizerExample(folder) }
      let sizes = printed.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
      let names = ["tiny-q4_k.gguf", "mmproj-tiny-q4_k.gguf"]
      #expect(
        try sizes
          == names.map { try Data(contentsOf: URL(filePath: folder + "/" + $0)).count })
      let model = try ggufModelExample(folder)
      var session = try Session(
        model,
        Request(question: "What number is at the top right?", images: [.file("Models/samples/bike.png")]), threads: 4)
      while try session.next() != nil {}
      #expect(session.report.text == "635.99")
    }
  }

  @Test func `sets generation options`() {
    let options = generationOptionsExample().options
    #expect(options.maxTokens == 64 && options.temperature == 0.7 && options.seed == 1 && options.stop == ["\n"])
  }

  @Test func `gives several answers, and answers within a schema`() throws {
    var request = Request(question: "What number is it?")
    (request.options.answerCount, request.options.maxTokens) = (3, 1)
    let printed = try PrintedText.of { try answersExample(Self.model(), request) }
    #expect(printed.count { $0 == "\n" } == 3)
    var constrained = constraintExample(request)
    constrained.options.maxTokens = 40
    var session = try Session(Self.model(), constrained, threads: 4)
    while try session.next() != nil {}
    let fields = try JSONSerialization.jsonObject(with: Data(session.report.text.utf8)) as? [String: Any]
    #expect(fields.map { $0.keys.allSatisfy { $0 == "total" } } ?? false)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `holds a conversation`() throws {
    let chat = try chatExample(Self.model())
    #expect(chat.messages.count == 4 && chat.images.count == 1)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `counts kept tokens`() throws {
    let printed = try PrintedText.of { try keptMapExample(Self.model()) }
    #expect(
      printed == """
        layer 8: 288 of 576 tokens kept
        layer 16: 144 of 576 tokens kept
        layer 24: 72 of 576 tokens kept

        """)
  }

  @Test func `renders a chat template`() throws {
    let printed = try PrintedText.of { try chatTemplateExample() }
    #expect(printed == "USER: <image>\nWhat is on the sign? ASSISTANT:\n")
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `caches image features`() throws {
    try Self.withTemporaryFolder { folder in
      let written = try PrintedText.of {
        try featureCacheExample(folder)
        try featureCacheExample(folder)
      }
      #expect(written == "1\n0\n")
    }
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `caches prompts`() throws {
    try Self.withTemporaryFolder { folder in
      let hits = try PrintedText.of {
        try promptCacheExample(folder)
        try promptCacheExample(folder)
      }
      #expect(hits == "0\n1\n")
    }
  }

  @Test func `plans schedules`() throws {
    let printed = try PrintedText.of {
      let (paper, stronger) = try pyramidDropExample()
      try fastVExample()
      print(try paper.stages(layerCount: 32, visualTokenCount: 576).map(\.keepCount))
      print(try stronger.stages(layerCount: 32, visualTokenCount: 576).map(\.keepCount))
    }
    #expect(printed == "[288, 144, 72]\n[144]\n[288, 144, 72]\n[144, 36, 9]\n")
  }

  @Test func `tokenizes and detokenizes`() throws {
    let printed = try PrintedText.of { try tokenizerExample() }
    #expect(printed.contains("USER: <image>") && printed.contains("What is on the sign? ASSISTANT:"))
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `answers two records in a batch`() throws {
    try Self.withTemporaryFolder { folder in
      try FileManager.default.createDirectory(atPath: folder + "/images", withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: "Models/samples/bike.png", toPath: folder + "/images/bike.png")
      let questions = """
        {"question_id": 1, "image": "bike.png", "text": "What number is at the top right?"}
        {"question_id": 2, "image": "bike.png", "text": "What is on the sign?"}
        """
      try questions.write(toFile: folder + "/questions.jsonl", atomically: true, encoding: .utf8)
      let model = try Self.model()
      let first = try PrintedText.of { try batchExample(model, folder) }
      #expect(first == "2 of 2 records answered\n")
      let answers = try String(contentsOfFile: folder + "/answers.jsonl", encoding: .utf8).split(separator: "\n")
      #expect(answers.count == 2)
      #expect(answers.first?.contains(#""text":"635.99""#) == true)
      // A second run finds both answers.
      let second = try PrintedText.of { try batchExample(model, folder) }
      #expect(second == "0 of 0 records answered\n")

      var images = Batch.Options(input: .images(folder: folder + "/images", question: "What is on the sign?"))
      batchShardExample(&images)
      images.shard = .all
      images.output = folder + "/signs.jsonl"
      let report = try Batch(images).run(
        model, like: Request(prompt: .messages([])), engine: EngineOptions(threads: 2, batchSize: 1))
      #expect(report.answered == 1 && report.images.encoded == 1)
    }
  }

  @Test func `refuses a batch whose policy does not fit the model`() throws {
    try Self.withTemporaryFolder { folder in
      let model = try Self.model()
      let batch = try Batch(Batch.Options(input: .images(folder: "Models/samples", question: "What is it?")))
      let base = Request(prompt: .messages([]), policy: FastV(k: model.layerCount))
      #expect(throws: BatchError.policy(.layerOutOfRange(layer: model.layerCount, layerCount: model.layerCount))) {
        try batch.run(model, like: base, engine: EngineOptions(threads: 1))
      }
    }
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"))
  func `follows the tutorial`() throws {
    let question = try PrintedText.of { try questionTutorial() }
    #expect(question.hasPrefix("635.99\nvisual tokens in each stage: [576, 288, 144, 72]\nKV cache: "))
    let comparison = try PrintedText.of { try comparisonTutorial() }
    #expect(comparison.contains("none: 635.99\n  visual tokens in each stage: [576]\n"))
    #expect(comparison.contains("prefill FLOPs: 100% of the baseline"))
    #expect(comparison.contains("pyramiddrop: 635.99\n  visual tokens in each stage: [576, 288, 144, 72]\n"))
  }
}
