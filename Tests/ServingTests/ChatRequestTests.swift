import PDrop
import Storage
import TestSupport
import Testing
import TokenDropping

@testable import Serving

@Suite struct ChatRequestTests {
  private func request(_ json: String) throws -> ChatRequest {
    try ChatRequest(
      try JSONParser.parse(Array(json.utf8)), like: Request(question: "", policy: FastV()), try ImageAccess(),
      layerCount: 32)
  }

  private func request(with members: String) throws -> ChatRequest {
    try request(#"{"messages": [{"role": "user", "content": "Hello"}], \#(members)}"#)
  }

  @Test func `fields of several servers are read`() throws {
    let chat = try request(
      with: #"""
        "model": "any", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 7, "stop": "x",
        "n": 2, "logprobs": true, "top_logprobs": 2, "stream": true, "stream_options": {"include_usage": true},
        "return_progress": true, "pdrop": {"policy": "pyramiddrop", "lambda": 0.25, "kept": true, "maps": true}
        """#)
    let options = chat.request.options
    #expect(options.maxTokens == 5 && options.temperature == 0.5 && options.topP == 0.9 && options.topK == 3)
    #expect(options.minP == 0.1 && options.seed == 7 && options.stop == ["x"] && options.answerCount == 2)
    #expect(options.logprobs == 2 && chat.streams && chat.includesUsage && chat.returnsProgress)
    #expect(chat.returnsKept && chat.returnsMaps)
    let stages = try #require(chat.request.policy as? PyramidDrop).stages(layerCount: 32, visualTokenCount: 256)
    #expect(stages.map(\.keepCount) == [64, 16, 4])
  }

  @Test(arguments: ["max_tokens", "max_completion_tokens"])
  func `-1 tokens are no limit`(name: String) throws {
    #expect(try request(with: "\"\(name)\": -1").request.options.maxTokens == Int.max)
  }

  @Test func `fields that no API has are ignored, and those that change nothing`() throws {
    let chat = try request(
      with: #""user": "u", "store": true, "metadata": {"a": 1}, "my_field": [1], "tools": [], "cache_prompt": true"#)
    #expect(chat.request.policy is FastV)
  }

  @Test func `a system message by its newer name, and images in parts`() throws {
    let chat = try request(
      #"""
      {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID", "detail": "high"}},
        {"type": "image_url", "image_url": "data:;base64,AQID"}, {"type": "text", "text": "What?"}]}]}
      """#)
    #expect(chat.request.images.count == 2)
    guard case .messages(let messages) = chat.request.prompt else {
      Issue.record("expected messages")
      return
    }
    #expect(messages[0] == ChatMessage(role: .system, parts: [.text("Be brief.")]))
    #expect(messages[1].parts == [.image, .image, .text("What?")])
  }

  @Test(
    arguments: [
      (#""temperature": 3"#, "temperature"), (#""temperature": "hot""#, "temperature"), (#""n": 0"#, "n"),
      (#""max_tokens": 1.5"#, "max_tokens"), (#""stream": 1"#, "stream"),
      (#""tools": [{"type": "function"}]"#, "tools"),
      (#""best_of": 2"#, "best_of"), (#""top_logprobs": 2"#, "top_logprobs"), (#""stop": [1]"#, "stop"),
      (#""response_format": {"type": "xml"}"#, "response_format"), (#""pdrop": 1"#, "pdrop"),
      (#""pdrop": {"policy": "best"}"#, "policy"), (#""pdrop": {"lambda": 2}"#, "ratio"),
      (#""pdrop": {"lamda": 0.5}"#, "lamda"), (#""pdrop": {"preselect": "best"}"#, "divprune"),
      (#""pdrop": {"preselect": "scope"}"#, "preselect_tokens"), (#""pdrop": {"preselect_tokens": 8}"#, "preselect"),
      (#""pdrop": {"recipe": "all"}"#, "recipe"), (#""pdrop": {"select": "best"}"#, "coverage"),
      (#""pdrop": {"policy": "none", "lambda": 0.5}"#, "lambda"),
      (#""pdrop": {"lambda": "0.5 --precision int8"}"#, "lambda"), (#""pdrop": {"kept": 1}"#, "kept"),
      (#""stream_options": {"include_usage": 1}"#, "include_usage"),
    ])
  func `a value that cannot be honoured is refused by name`(members: String, name: String) throws {
    let error = try #require(throws: APIError.self) { try request(with: members) }
    #expect(error.status == 400 && error.message.contains(name), "\(error.message)")
    #expect(!error.message.contains("\n"))
  }

  @Test(
    arguments: [
      "[]", "{}", #"{"messages": []}"#, #"{"messages": "Hello"}"#, #"{"messages": [{"role": "user"}]}"#,
      #"{"messages": [{"role": "tool", "content": "x"}]}"#, #"{"messages": [{"role": "assistant", "content": "x"}]}"#,
      #"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
      #"{"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}"#,
      #"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]}"#,
      #"{"messages": [{"role": "user", "content": "x", "images": ["AQID"]}]}"#,
    ])
  func `messages that cannot be read are refused`(json: String) throws {
    #expect(try #require(throws: APIError.self) { try request(json) }.status == 400)
  }

  @Test func `images on a network are found once`() throws {
    let body = try JSONParser.parse(
      Array(
        #"""
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "HTTPS://a/b"}},
          {"type": "image_url", "image_url": "HTTPS://a/b"}, {"type": "image_url", "image_url": "data:,"}]}]}
        """#.utf8))
    #expect(ChatRequest.remoteImages(body) == ["HTTPS://a/b"])
  }
}
