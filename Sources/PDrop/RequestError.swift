public import ImageProcessing
public import LLaVA
public import Storage
public import TokenDropping

public typealias UserFacingError = Storage.UserFacingError
public typealias ErrorCategory = Storage.ErrorCategory
public typealias Remedy = Storage.Remedy
public typealias SequenceError = LLaVA.SequenceError
public typealias TargetError = LLaVA.TargetError

/// An error of a request: of its images, prompt, policy or generation.
public enum RequestError: UserFacingError, Equatable {
  /// An image cannot be read or decoded.
  case image(ImageError)
  /// The prompt does not fit the chat template.
  case prompt(PromptError)
  /// The schedule does not fit the model.
  case policy(DropPolicyError)
  /// The policy cannot meet its cost target.
  case target(TargetError)
  /// Prompt and images do not make a sequence that the model can read.
  case sequence(SequenceError)
  /// The model or its output cannot be used for the request.
  case generation(GenerationError)
  /// The form of the answer cannot be followed.
  case constraint(ConstraintError)

  /// The error itself.
  public var underlying: any UserFacingError {
    switch self {
    case .image(let error): error
    case .prompt(let error): error
    case .policy(let error): error
    case .target(let error): error
    case .sequence(let error): error
    case .generation(let error): error
    case .constraint(let error): error
    }
  }

  public var category: ErrorCategory { underlying.category }
  public var problem: String { underlying.problem }
  public var remedies: [Remedy] { underlying.remedies }

  /// Runs `body`, and wraps the error that it throws.
  static func wrapping<Value: ~Copyable, Failure: Error>(
    _ wrap: (Failure) -> RequestError, _ body: () throws(Failure) -> Value
  ) throws(RequestError) -> Value {
    do { return try body() } catch { throw wrap(error) }
  }
}

extension DropPolicyError: UserFacingError {
  public var category: ErrorCategory { .usage }
  public var problem: String { description }
}
