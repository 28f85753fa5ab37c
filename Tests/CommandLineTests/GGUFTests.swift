import Foundation
import TestSupport
import Testing

/// The programs with GGUF models.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct GGUFTests {
  private static let mistral = Goldens.path("gguf/models/mistral-256/ggml-model-q4_k_m.gguf")
  private static let vicuna = Goldens.path("gguf/models/vicuna-64/ggml-model-q4_0-2023.gguf")
  private static let vision = Goldens.path("gguf/models/vicuna-64/mmproj-model-f16-2023.gguf")
  private static let image = Goldens.path("images/shapes_640x480.png")
  private static let question = ["-t", "2", "-n", "6", "-p", "What is it?"]

  private func copy(_ files: [String: String], into folder: borrowing TemporaryFolder) throws {
    for (name, source) in files {
      try FileManager.default.createSymbolicLink(atPath: folder.path(name), withDestinationPath: source)
    }
  }

  @Test func `answers with the only vision encoder beside the model`() throws {
    let run = try ProgramRun(Self.question + ["-m", Self.mistral, "--image", Self.image, "--precision", "int4", "-v"])
    #expect(run.status == 0 && !run.output.isEmpty, "\(run.errors)")
    #expect(run.errors.contains("Q4_K (") && run.errors.contains("head in blocks"), "\(run.errors)")
  }

  @Test func `several vision encoders beside the model need --mmproj`() throws {
    let arguments = Self.question + ["-m", Self.vicuna, "--image", Self.image]
    let run = try ProgramRun(arguments)
    run.expectFailure(3, "2 vision encoders (mmproj), found mmproj-model-f16-2023.gguf")
    #expect(run.errors.contains("name the vision encoder's file with --mmproj"))
    let named = try ProgramRun(arguments + ["--mmproj", Self.vision])
    #expect(named.status == 0 && !named.output.isEmpty, "\(named.errors)")
  }

  @Test func `answers with a directory of a pair as with its file`() throws {
    let folder = try TemporaryFolder()
    let vision = Goldens.path("gguf/models/mistral-256/mmproj-model-f16.gguf")
    try copy(["a model.gguf": Self.mistral, "b.gguf": vision], into: folder)
    let (pair, file) = try (
      ProgramRun(Self.question + ["-m", folder.path, "--image", Self.image]),
      ProgramRun(Self.question + ["-m", Self.mistral, "--image", Self.image])
    )
    #expect(pair.status == 0 && pair.output == file.output, "\(pair.errors)")
    try copy(["c.gguf": Self.vicuna], into: folder)
    try ProgramRun(Self.question + ["-m", folder.path]).expectFailure(
      3, "2 language models, found a model.gguf, c.gguf")
  }

  @Test func `refuses files that are no pair`() throws {
    let folder = try TemporaryFolder()
    try copy(["model.gguf": Self.mistral], into: folder)
    func ask(_ arguments: String...) throws -> ProgramRun { try ProgramRun(Self.question + arguments) }
    try ask("-m", folder.path("model.gguf"), "--image", Self.image).expectFailure(2, "no vision encoder (mmproj)")
    #expect(try ask("-m", folder.path, "--image", Self.image).errors.contains("with --mmproj"))
    try ask("-m", Self.vision).expectFailure(3, "expected a language model")
    try ask("-m", Self.vicuna, "--mmproj", Self.mistral).expectFailure(3, "expected a vision encoder")
    try ask("-m", Self.mistral, "--mmproj", Self.vision).expectFailure(3, "the files are not of one model")
    try ask("-m", Self.vicuna, "--mmproj", folder.path("none.gguf")).expectFailure(3, "none.gguf")
    try ask("-m", Self.vicuna, "--mmproj", Self.image).expectFailure(3, "shapes_640x480.png")
    try ask("-m", Self.vicuna, "--mmproj", Self.vision, "--vision-tower", folder.path)
      .expectFailure(3, "leave out --vision-tower")
    try ask("--mmproj", Self.vision).expectFailure(3, "leave out --mmproj")
    let bytes = try Data(contentsOf: URL(filePath: Self.vicuna))
    try folder.write("short.gguf", bytes.prefix(bytes.count / 2))
    try ask("-m", folder.path("short.gguf"), "--mmproj", Self.vision).expectFailure(3, "short.gguf")
    try folder.write("empty.gguf", "")
    try ask("-m", folder.path("empty.gguf")).expectFailure(3, "empty.gguf")
  }

  @Test func `a language model alone answers questions without images`() throws {
    let folder = try TemporaryFolder()
    try copy(["model.gguf": Self.vicuna], into: folder)
    let alone = try ProgramRun(Self.question + ["-m", folder.path("model.gguf")])
    let pair = try ProgramRun(Self.question + ["-m", Self.vicuna, "--mmproj", Self.vision])
    #expect(alone.status == 0 && alone.output == pair.output && !alone.output.isEmpty, "\(alone.errors)")
  }

  @Test func `check agrees with the reference of a pair in f32`() throws {
    let run = try ProgramRun([
      "check", "-t", "2", "-m", Self.mistral, "--precision", "f32", "--case", "q4_k_m", "q4_k_m_text_only",
    ])
    #expect(run.status == 0 && run.errors.isEmpty, "\(run)")
    #expect(run.outputLines.count { $0.hasSuffix(" stages agree") } == 2, "\(run.output)")
    #expect(run.outputLines.contains("ggml-model-q4_k_m, case q4_k_m"), "\(run.output)")
    // The cases of other files in the directory are not those of the pair.
    try ProgramRun(["check", "-m", Self.mistral, "--case", "q2_k"]).expectFailure(2, "use one of q4_k_m")
  }

  @Test(arguments: [("vicuna-64/ggml-model-q8_0", "q8_0"), ("qwen2-64/ggml-model-q4_k_m", "q4_k_m")])
  func `tokenizes without a vision encoder`(path: String, name: String) throws {
    let folder = try TemporaryFolder()
    try copy(["model.gguf": Goldens.path("gguf/models/\(path).gguf")], into: folder)
    struct Output: Decodable { var ids: [Int] }
    let golden = try GGUFGoldenCase(path.split(separator: "/").first.map(String.init) ?? "", name).golden
    let run = try ProgramRun(["tokenize", "-m", folder.path("model.gguf"), "-p", "What is shown in this image?"])
    #expect(run.status == 0, "\(run.errors)")
    let ids = try JSONDecoder().decode(Output.self, from: Data(run.output.utf8)).ids
    #expect(!ids.isEmpty && golden.promptIDs.count > ids.count)
    // All but the first, which depends on the text before it, occur in the prompt if it has the question.
    if golden.prompt.contains("What is shown in this image?") {
      let rest = Array(ids.dropFirst())
      #expect(golden.promptIDs.indices.contains { golden.promptIDs[$0...].starts(with: rest) })
    }
    try ProgramRun(["tokenize", "-m", Self.vision, "-p", "a"]).expectFailure(3, "expected a language model")
  }

  @Test func `answers a batch`() throws {
    let folder = try BatchFolder(count: 6)
    let run = try ProgramRun(folder.arguments(["-m", Self.mistral, "--batch-size", "4"]))
    #expect(!run.wasKilled && run.errors.contains("records answered"), "\(run.errors)")
    let lines = try folder.lines()
    let single = try ProgramRun(folder.arguments(["-m", Self.mistral, "--batch-size", "1", "--overwrite"]))
    #expect(!single.wasKilled)
    #expect(try folder.lines() == lines && lines.contains { $0.contains(#""text""#) })
  }

  @Test func `is measured by pdrop-bench`() throws {
    let run = try ProgramRun(
      [
        "-m", Self.mistral, "--precision", "int4", "--policy", "none", "-p", "20", "-n", "2", "-r", "1", "-t", "2",
        "-o", "jsonl",
      ],
      program: "pdrop-bench")
    #expect(run.status == 0, "\(run.errors)")
    let rows = try EvaluationFolder.rows(run.output)
    #expect(rows.count == 3 && rows.allSatisfy { $0["precision"] as? String == "Q4_K" }, "\(run.output)")
  }

  @Test func `is evaluated by pdrop-eval`() throws {
    let folder = try EvaluationFolder()
    let run = try folder.run(["-m", Self.mistral, "--benchmark", "pope", "--policy", "none", "-o", "jsonl"])
    #expect(run.status == 0, "\(run.errors)")
    #expect(try EvaluationFolder.rows(run.output).contains { $0["benchmark"] as? String == "pope" }, "\(run.output)")
    let answers = folder.folder.url.appending(path: "output/pope/answers")
    let names = try FileManager.default.contentsOfDirectory(atPath: answers.path)
    #expect(names.contains("ggml-model-q4_k_m-none-f32.jsonl"), "\(names)")
  }
}
