import BatchInference
import Foundation
import PDrop
import TokenDropping
import Tokenizers

// The examples of the doc comments, one function for each. `ExampleCopyTests` compares them with the comments, and
// `ExampleTests` runs them.

func visionLanguageModelExample() throws {
  var options = VisionLanguageModel.Options()
  options.precision = .int8
  let model = try VisionLanguageModel(directory: "Models/tiny-textvqa", options: options)
  print(model.template.name, model.contextLength, model.precision.reason)
  var session = try Session(model, Request(question: "Hello"), threads: 4)
  while let text = try session.next() { print(text, terminator: "") }
}

func ggufModelExample(_ folder: String) throws -> VisionLanguageModel {
  var options = VisionLanguageModel.Options()
  options.mmproj = folder + "/mmproj-tiny-q4_k.gguf"  // not needed for the only one beside the model
  let model = try VisionLanguageModel(directory: folder + "/tiny-q4_k.gguf", options: options)
  return model
}

func modelQuantizerExample(_ folder: String) throws {
  let quantizer = ModelQuantizer(type: .q4K, threads: 4)
  let files = try quantizer.write("Models/tiny-textvqa", to: folder + "/tiny-q4_k.gguf")
  print(files.modelBytes, files.mmprojBytes)
}

func sessionExample() throws {
  let model = try VisionLanguageModel(directory: "Models/tiny-textvqa")
  let request = Request(
    question: "What number is at the top right?", images: [.file("Models/samples/bike.png")])
  var session = try Session(model, request, threads: 4)
  while let text = try session.next() { print(text, terminator: "") }
  print(session.report.visualTokensPerStage)
}

func requestExample(_ model: VisionLanguageModel) throws {
  var request = Request(
    question: "What number is at the top right?", images: [.file("Models/samples/bike.png")],
    policy: PyramidDrop(.listed(layers: [4, 8], ratios: [0.5, 0.25])))
  request.options.maxTokens = 16
  var session = try Session(model, request, threads: 4)
  while let text = try session.next() { print(text, terminator: "") }
}

func answersExample(_ model: VisionLanguageModel, _ request: Request) throws {
  var session = try Session(model, request, threads: 4)
  repeat {
    while let text = try session.next() { print(text, terminator: "") }
    print()
  } while session.startNextAnswer()
}

func constraintExample(_ question: Request) -> Request {
  var request = question
  request.options.constraint = .jsonSchema(#"{"type": "object", "properties": {"total": {"type": "number"}}}"#)
  return request
}

func generationOptionsExample() -> Request {
  var options = GenerationOptions()
  options.maxTokens = 64
  options.temperature = 0.7  // sampling; 0 is greedy decoding
  options.seed = 1
  options.stop = ["\n"]
  let request = Request(question: "Describe the image.", images: [.file("photo.jpg")], options: options)
  return request
}

func chatExample(_ model: VisionLanguageModel) throws -> Chat {
  var chat = Chat()
  chat.add(try model.encode(.file("Models/samples/bike.png"), threads: 4))
  for question in ["What number is at the top right?", "What colour is the bike?"] {
    var session = try Session(model, chat.request(question, like: Request(question: "")), threads: 4)
    while try session.next() != nil {}
    chat.complete(question, answer: session.report.text)
  }
  return chat
}

func keptMapExample(_ model: VisionLanguageModel) throws {
  var request = Request(question: "What is on the sign?", images: [.file("Models/samples/bike.png")])
  request.recordsTensors = true
  let session = try Session(model, request, threads: 4)
  for stage in try session.keptMaps[0].stages {
    print("layer \(stage.layer): \(stage.keptCount) of \(stage.tokens.count) tokens kept")
  }
}

func chatTemplateExample() throws {
  let question = ChatMessage(question: "What is on the sign?", imageCount: 1)
  print(try ChatTemplate.llava15HF.render([question]))  // USER: <image>\nWhat is on the sign? ASSISTANT:
}

func featureCacheExample(_ folder: String) throws {
  var options = VisionLanguageModel.Options()
  options.featureCache = FeatureCacheOptions(directory: folder + "/features", byteLimit: 1 << 30)
  let model = try VisionLanguageModel(directory: "Models/tiny-textvqa", options: options)
  _ = try model.encode(.file("Models/samples/bike.png"), threads: 4)
  print(model.featureCacheStatistics?.written ?? 0)  // 1 in the first run, 0 in later ones
}

func promptCacheExample(_ folder: String) throws {
  var options = VisionLanguageModel.Options()
  options.promptCache = PromptCacheOptions(directory: folder + "/prompts", byteLimit: 1 << 30)
  let model = try VisionLanguageModel(directory: "Models/tiny-textvqa", options: options)
  let image = Request.Image.file("Models/samples/bike.png")
  _ = try Session(model, Request(question: "What colour is the bike?", images: [image]), threads: 4)
  print(model.promptCacheStatistics?.hits ?? 0)  // 0 in the first run, 1 in later ones
}

func pyramidDropExample() throws -> (PyramidDrop, PyramidDrop) {
  let policy = PyramidDrop()  // keeps half of the tokens after layers 8, 16 and 24 of 32
  let stages = try policy.stages(layerCount: 32, visualTokenCount: 576)
  print(stages.map(\.keepCount))  // [288, 144, 72]
  let paper = PyramidDrop(.listed(layers: [8, 16, 24], ratios: [0.5, 0.25, 0.125]))  // the same
  let stronger = PyramidDrop(.geometric(lambda: 0.25))  // keeps 144, 36 and 9
  return (paper, stronger)
}

func fastVExample() throws {
  let policy = FastV(k: 3, r: 0.75)  // after layer 3, drops three quarters of the tokens
  let stages = try policy.stages(layerCount: 32, visualTokenCount: 576)
  print(stages.map(\.keepCount))  // [144]
}

func preselectionExample() throws {
  let selection = Preselection(.scope(), .tokens(64))
  let policy = Preselected(selection, then: PyramidDrop())
  let stages = try policy.stages(layerCount: 32, visualTokenCount: selection.tokenCount(of: 576))
  print(stages.map(\.keepCount))  // [32, 16, 8]
}

func recipeExample() {
  let recipe = Recipe.all.first { $0.name == "tops-64" }
  print(recipe?.published ?? "")  // 64 tokens
}

func tokenizerExample() throws {
  let tokenizer = try Tokenizer(directory: URL(filePath: "Models/tiny-textvqa", directoryHint: .isDirectory))
  let ids = tokenizer.encodePrompt("USER: <image>\nWhat is on the sign? ASSISTANT:")
  print(tokenizer.decode(ids, skipSpecialTokens: false))
}

func batchExample(_ model: VisionLanguageModel, _ folder: String) throws {
  var options = Batch.Options(
    input: .lines(path: folder + "/questions.jsonl", folder: folder + "/images"))
  options.output = folder + "/answers.jsonl"
  options.existingOutput = .resume(retriesFailures: true)
  let batch = try Batch(options)
  let base = Request(prompt: .messages([]), policy: PyramidDrop())
  let report = try batch.run(model, like: base, engine: EngineOptions(threads: 4))
  print("\(report.answered) of \(report.records) records answered")
}

func batchShardExample(_ options: inout Batch.Options) {
  options.shard = BatchShard("3/8") ?? .all  // records 3, 11, 19 and so on
}
