import BatchInference
import PDrop
import Storage
import TestSupport
import Testing
import TokenDropping

@testable import Serving

@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct InferenceServiceTests {
  private let model: VisionLanguageModel

  init() throws { model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5")) }

  private func service(
    batchSize: Int = 16, queueLimit: Int = 64, prefillShare: Double? = 0.5
  ) throws -> InferenceService {
    var options = InferenceService.Options(engine: EngineOptions(threads: 2, batchSize: batchSize))
    options.engine.prefillShare = prefillShare
    options.engine.prefixLimit = 8
    options.queueLimit = queueLimit
    return try InferenceService(model, options)
  }

  private func request(_ question: String, tokens: Int = 24, _ policy: any TokenDroppingPolicy = PyramidDrop())
    -> Request
  {
    var request = Request(question: question, images: [.file(Goldens.path("images/rgba_360x360.png"))], policy: policy)
    request.options.maxTokens = tokens
    request.options.ignoresEOS = true
    return request
  }

  private func result(
    _ ticket: InferenceService.Ticket
  ) async throws -> (events: [InferenceService.Event], report: RunReport) {
    var events: [InferenceService.Event] = []
    for await event in ticket.events { events.append(event) }
    guard case .finished(let result, _)? = events.last else { throw Missing.end }
    return (events, try result.get())
  }

  private enum Missing: Error { case end }

  private static let questions = ["What is it?", "Which colour has the car?", "Read the sign.", "How many people?"]

  @Test func `an answer is the same alone and among others, and as in a session`() async throws {
    let service = try service()
    let tickets = try (0..<8).map { index in
      try service.submit(
        request(Self.questions[index % 4], tokens: 8 + 5 * (index % 3), index < 4 ? PyramidDrop() : FastV()))
    }
    for (index, ticket) in tickets.enumerated() {
      let served = try await result(ticket)
      let same = request(Self.questions[index % 4], tokens: 8 + 5 * (index % 3), index < 4 ? PyramidDrop() : FastV())
      let alone = try await result(try service.submit(same)).report
      var session = try Session(model, same, threads: 1)
      while try session.next() != nil {}
      #expect(served.report.tokens == alone.tokens && served.report.tokens == session.report.tokens)
      #expect(served.report.text == session.report.text)
      let text = served.events.reduce(into: "") { if case .text(let part) = $1 { $0 += part.text } }
      #expect(text == session.report.text, "the parts of the text are the text")
    }
    service.stop()
    service.waitUntilEnded()
  }

  @Test func `progress goes through the layers of vision encoder and decoder`() async throws {
    let service = try service()
    let events = try await result(try service.submit(request("What is it?", tokens: 2))).events
    let layers = events.compactMap { event in if case .progress(let progress) = event { progress.layer } else { nil } }
    #expect(layers.first?.isVisionEncoder == true && layers.first?.layer == 0)
    #expect(layers.filter { !$0.isVisionEncoder }.map(\.layer) == Array(0..<model.layerCount))
    #expect(layers.last?.stage == 3)
  }

  @Test func `a cancelled request frees its slot, and the others are answered`() async throws {
    let service = try service(batchSize: 2)
    let expected = try await result(try service.submit(request(Self.questions[0]))).report.tokens
    let endless = try service.submit(request("Never mind", tokens: 1500))
    let waiting = try service.submit(request("Never mind either", tokens: 1500))
    let answered = try service.submit(request(Self.questions[0]))
    service.cancel(waiting)
    service.cancel(endless)
    #expect(try await result(answered).report.tokens == expected)
    for ticket in [endless, waiting] {
      var events: [InferenceService.Event] = []
      for await event in ticket.events { events.append(event) }
      if case .finished? = events.last { Issue.record("a cancelled request has an answer") }
    }
    service.stop()
    service.waitUntilEnded()
    #expect(service.slots.allSatisfy { $0.request == nil } && service.load == (0, 0))
    #expect(service.metrics.cancelled.value == 2)
  }

  @Test func `requests beyond the queue are refused, and a stopping service takes none`() async throws {
    let service = try service(batchSize: 2, queueLimit: 1)
    // In a burst, none has begun when the last one arrives.
    let accepted = try (0..<3).map { try service.submit(request("\($0)", tokens: 1500)) }
    #expect(throws: InferenceService.Refusal.full(limit: 1, retryAfter: 1)) { try service.submit(request("Too many")) }
    service.stop()
    #expect(throws: InferenceService.Refusal.stopping) { try service.submit(request("Too late")) }
    for ticket in accepted { service.cancel(ticket) }
    service.waitUntilEnded()
  }

  @Test func `a request that fails leaves the next one alone`() async throws {
    let service = try service()
    var damaged = request("What is it?")
    damaged.images = [.encoded([0x89, 0x50, 0x4E, 0x47, 1, 2], name: "image 1")]
    let ticket = try service.submit(damaged)
    var last: InferenceService.Event?
    for await event in ticket.events { last = event }
    guard case .finished(.failure(let failure), _)? = last else {
      Issue.record("expected a failure")
      return
    }
    #expect(APIError(failure).status == 400 && failure.problem.contains("image 1"))
    _ = try await result(try service.submit(request("What is it?")))
  }

  // MARK: - Answers

  private func chunks(_ json: String) async throws -> [JSONValue] {
    let service = try service()
    let chat = try ChatRequest(
      try JSONParser.parse(Array(json.utf8)), like: Request(question: ""),
      try ImageAccess(mediaPath: Goldens.path("images")), layerCount: model.layerCount)
    var answer = ChatAnswer(chat, .init(id: "chatcmpl-1", created: 1, model: "m"), by: model)
    var chunks: [JSONValue] = []
    for await event in try service.submit(chat.request).events { chunks += try answer.chunks(for: event) }
    return chunks
  }

  private static let body = #"""
    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file://rgba_360x360.png"},
      {"type": "text", "text": "What is it?"}]}], "max_tokens": 6, "ignore_eos": true
    """#

  @Test func `a stream has the form of OpenAI`() async throws {
    let chunks = try await chunks(
      #"{\#(Self.body), "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 1}"#)
    #expect(chunks.allSatisfy { $0["id"].string == "chatcmpl-1" && $0["object"].string == "chat.completion.chunk" })
    #expect(chunks[0]["choices"].array?[0]["delta"]["role"].string == "assistant")
    let choices = chunks.compactMap { $0["choices"].array?.first }
    #expect(choices.last?["finish_reason"].string == "length")
    #expect(choices.dropLast().allSatisfy { $0["finish_reason"].isNull })
    #expect(choices.reduce(0) { $0 + ($1["logprobs"]["content"].array?.count ?? 0) } == 6)
    #expect(chunks[chunks.count - 2]["timings"]["predicted_n"].integer == 6)
    #expect(chunks[chunks.count - 2]["pdrop"]["visual_tokens_per_stage"].array?.count == 4)
    let usage = try #require(chunks.last?["usage"])
    #expect(chunks.last?["choices"].array?.isEmpty == true && usage["completion_tokens"].integer == 6)
    #expect(usage["prompt_tokens_details"]["image_tokens"].integer == 576)
  }

  @Test func `several answers have their own chunks, and one has the costs`() async throws {
    let chunks = try await chunks(#"{\#(Self.body), "n": 3, "temperature": 1, "seed": 5}"#)
    for index in 0..<3 {
      let own = chunks.compactMap { $0["choices"].array?.first }.filter { $0["index"].integer == index }
      #expect(own.first?["delta"]["role"].string == "assistant" && own.last?["finish_reason"].string == "length")
    }
    #expect(chunks.count { !$0["timings"].isNull } == 1)
  }

  @Test func `maps come before the text, and kept tokens at the end`() async throws {
    let chunks = try await chunks(#"{\#(Self.body), "pdrop": {"kept": true, "maps": true}}"#)
    let map = try #require(chunks[0]["pdrop"]["maps"].array?.first)
    #expect(map["regions"].array?[0]["png"].string?.hasPrefix("data:image/png;base64,iVBOR") == true)
    #expect(map["places"].array?.count == 576 && map["stages"].array?.count == 3)
    let kept = try #require(chunks.last?["pdrop"]["kept"].array)
    #expect(kept.map { $0.array?[0].array?.count } == [288, 144, 72])
    #expect(
      map["stages"].array?[2]["kept"].array?.compactMap(\.integer) == kept[2].array?[0].array?.compactMap(\.integer))
  }

  @Test func `a selection is named with its tokens`() async throws {
    let chunks = try await chunks(
      #"{\#(Self.body), "pdrop": {"preselect": "divprune", "preselect_tokens": 40, "kept": true, "maps": true}}"#)
    let dropping = try #require(chunks.last?["pdrop"])
    let selected = try #require(dropping["selected"].array?[0].array)
    #expect(selected.count == 40 && dropping["policy"]["preselect"].string == "divprune 40")
    #expect(dropping["visual_tokens_per_stage"].array?.compactMap(\.integer) == [40, 20, 10, 5])
    let stages = try #require(chunks[0]["pdrop"]["maps"].array?[0]["stages"].array)
    #expect(stages.count == 4 && stages[0]["layer"].integer == 0)
    #expect(stages[0]["kept"].array?.compactMap(\.integer) == selected.compactMap(\.integer))
  }

  @Test func `progress is sent only if it is asked for`() async throws {
    let with = try await chunks(#"{\#(Self.body), "return_progress": true}"#)
    let without = try await chunks("{\(Self.body)}")
    #expect(with.contains { $0["prompt_progress"]["phase"].string == "prefill" })
    #expect(!without.contains { !$0["prompt_progress"].isNull })
  }

  @Test func `metrics have the text format of Prometheus`() async throws {
    let service = try service()
    _ = try await result(try service.submit(request("What is it?")))
    let lines = service.prometheusText.split(separator: "\n")
    for line in lines where !line.hasPrefix("#") {
      #expect(line.contains(#/^pdrop:[a-z0-9_]+(\{[a-z_]+="[^"]*"\})? [0-9.e+-]+$/#), "\(line)")
    }
    #expect(lines.contains("pdrop:image_tokens_total 576") && lines.contains("pdrop:tokens_predicted_total 24"))
    #expect(lines.contains(#"pdrop:image_tokens_per_stage_total{stage="4"} 72"#))
    #expect(lines.contains(#"pdrop:time_to_first_token_seconds_bucket{le="+Inf"} 1"#))
  }
}
