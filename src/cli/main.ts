#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { Fault } from "../core/faults.ts";
import { RECORDING_BYTES } from "../core/recording.ts";
import { benchCommand } from "./bench-command.ts";
import { endWithOutput } from "./closed-output.ts";
import { gatewayCommand } from "./gateway-command.ts";
import { type ImportOptions, importFile } from "./import.ts";
import { inspect } from "./inspect.ts";
import { keysCommand } from "./keys-command.ts";
import { loadCommand } from "./load-command.ts";
import { listModels } from "./models.ts";
import { planCommand } from "./plan-command.ts";
import { profileCommand } from "./profile-command.ts";
import { replayCommand } from "./replay-command.ts";
import { addRepositoryOptions } from "./repository-options.ts";
import { runModel } from "./run.ts";
import type { ServeOptions } from "./serve.ts";
import { simulateCommand } from "./simulate-command.ts";
import { traceCommand } from "./trace-command.ts";
import { findSpeech } from "./vad.ts";
import { type VerifyCommandOptions, verify } from "./verify.ts";

const program = new Command("cellbatch")
  .description("Serves recurrent and other stateful sequence models with cellular batching.")
  .version(version())
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : USAGE))
  .showHelpAfterError();

addRepositoryOptions(program.command("serve"))
  .description("serve models over WebSocket, HTTP and gRPC until SIGTERM or SIGINT")
  .option("--host <address>", "address to listen on", "127.0.0.1")
  .option("--port <number>", "port to listen on; 0 takes a free one", integer(0, 65_535), 8080)
  .option("--grpc-port <number>", "port of gRPC; 0 takes a free one; no gRPC by default", integer(0, 65_535))
  .addOption(modelOption())
  .addOption(
    repeated("--profile <file>", "what a model's cells cost here, by 'cellbatch profile'; may be repeated"),
  )
  .option(
    "--keys <file>",
    "keys that callers must bring, made with 'cellbatch keys'; anybody may call by default",
  )
  .option("--open-metrics", "answer /metrics without a key", false)
  .option("--tls-cert <file>", "certificate with its chain (PEM), for HTTPS, WSS and gRPC over TLS")
  .option("--tls-key <file>", "its private key (PEM)")
  .addOption(
    repeated(
      "--allow-origin <origin>",
      "origin whose pages may call, as https://app.example; '*' for all; may be repeated; only this server's own by default",
    ),
  )
  .option("--compression", "compress WebSocket messages of 1 KiB and more where clients can", false)
  .option(
    "--engines <count>",
    "engine threads; one per core by default, 1 with --provider webgpu",
    integer(1, 1024),
  )
  .option("--threads <count>", "threads of each engine's ONNX Runtime", integer(1, 1024), 1)
  .addOption(
    new Option("--device <name>", "where cells run: on a GPU ('auto': if there is one) or the CPU")
      .choices(["auto", "cuda", "cpu"])
      .default("cpu"),
  )
  .addOption(
    new Option("--numbers <kind>", "what a GPU multiplies; 'tf32' and 'bf16' need one that '--device' names")
      .choices(["fp32", "tf32", "bf16"])
      .default("fp32"),
  )
  .addOption(
    repeated(
      "--provider <name>",
      "execution provider of ONNX Runtime; may be repeated, in order; cpu by default",
    ),
  )
  .option(
    "--kernel <module>",
    "'onnx', or a module whose default export loads the kernel of cells; the native kernel by default, where it was built",
  )
  .option("--max-batch <rows>", "most rows of one task; measured by default", integer(1, 65_536))
  .option(
    "--max-active <count>",
    "requests and sessions that may be active or queued",
    integer(1, 10_000_000),
    10_000,
  )
  .addOption(
    new Option("--policy <name>", "how the next cell type is chosen")
      .choices(Object.keys(policies))
      .default("cellular"),
  )
  .option(
    "--drain-ms <ms>",
    "how long running requests may go on after SIGTERM, or once their model version is unloaded",
    integer(0, 3_600_000),
    10_000,
  )
  .addOption(
    new Option("--log-level <level>", "least level that is logged to stderr, as JSON lines")
      .choices(["debug", "info", "warn", "error", "silent"])
      .default("warn"),
  )
  .option("--plan <file>", "settings to obey, by 'cellbatch plan batching': buffers, rows of a task, engines")
  .option(
    "--adapt",
    "plan again when requests come at another rate than the plan is for; needs --profile",
    false,
  )
  .option(
    "--record <file>",
    "add when requests come, how large they are and every batch to a recording, for 'cellbatch replay' and 'cellbatch plan'; no user data",
  )
  .option(
    "--record-limit <bytes>",
    "how large the recording may become, with what is there",
    integer(1, Number.MAX_SAFE_INTEGER),
    RECORDING_BYTES,
  )
  .option(
    "--log-inputs",
    "with --log-level debug, log what requests are asked with and why they were refused; user data",
    false,
  )
  .action(async (options: ServeOptions & { policy: PolicyName }) => {
    // Loaded here, since the other commands need no server and should not wait for one.
    const { serve } = await import("./serve.ts");
    await serve(options, version());
  });

program
  .command("run")
  .description(
    "run one model on text, on a WAV file (16 kHz, mono, 16 bit), on tensors in a JSON file or on lines from standard input",
  )
  .argument("<model>", "name of a model of the zoo, or a model's folder or module")
  .argument("[input]", "text or file; lines of standard input where it is left out")
  .option("--temperature <number>", "sampling temperature; 0 takes the likeliest token", number, 0)
  .option("--top-k <count>", "sample among the likeliest tokens; 0 for all", integer(0, 2 ** 31 - 1), 0)
  .option("--top-p <share>", "sample among the likeliest tokens that hold this share", number, 1)
  .option("--seed <number>", "seed of the sampling", integer(0, 2 ** 32 - 1), 0)
  .option("--beam-width <count>", "hypotheses of a beam search; the model's own by default", integer(1, 64))
  .option("--max-steps <count>", "most cells that a generating model may run", integer(1, 2 ** 31 - 1))
  .option(
    "--inputs <file>",
    "JSON of inputs by name, or a request of the Open Inference Protocol; prints JSON",
  )
  .option("--json", "print results as JSON lines", false)
  .action((model: string, input: string | undefined, options: Parameters<typeof runModel>[2]) =>
    runModel(model, input, options),
  );

program
  .command("vad")
  .description("find the speech in a WAV file of any rate; channels are mixed into one")
  .argument("<file>", "WAV: PCM of 8 to 32 bit or float")
  .option("--model <path>", "ONNX file of Silero VAD; that of the installed @ricky0123/vad-web by default")
  .option("--json", "print as JSON", false)
  .option("--plot <file>", "write the waveform, the probabilities and the segments as SVG")
  .action((file: string, options: Parameters<typeof findSpeech>[1]) => findSpeech(file, options));

program
  .command("models")
  .description("list models with their inputs, outputs and cells")
  .addOption(modelOption())
  .option("--json", "print as JSON", false)
  .action((options: Parameters<typeof listModels>[0]) => listModels(options));

program
  .command("import")
  .description(
    "make a model folder of an ONNX file (one step, or sequences with LSTM, GRU or RNN nodes), of a PyTorch state dict in safetensors, or of a Keras model (.keras, or model.json of TensorFlow.js); or of another model folder, to quantise it",
  )
  .argument("<source>", "the file, or a model of the zoo by name or another by its folder")
  .requiredOption("--out <folder>", "folder to write, new or of a model")
  .option("--name <name>", "name of the model; the file's by default")
  .addOption(
    new Option("--form <form>", "what the graph computes; found by default").choices(["step", "sequence"]),
  )
  .addOption(new Option("--program <kind>", "sessions or single requests").choices(["chain", "session"]))
  .addOption(repeated("--output <name>", "output to serve; may be repeated; all but the states by default"))
  .addOption(repeated("--state <input=output>", "state of a step graph; may be repeated; found by name"))
  .addOption(repeated("--batch-axis <name=axis>", "axis of a tensor that holds the rows; may be repeated"))
  .addOption(repeated("--shape <name=dims>", "shape of one row at one step, as 3,4; may be repeated"))
  .addOption(repeated("--constant <name=value>", "input that never changes; may be repeated"))
  .option("--context <input=size>", "put the last values of an input before its next ones")
  .option("--names <file>", "state dict: JSON of its names, by those that PyTorch would give")
  .option("--prefix <prefix>", "state dict: what stands before weight_ih_l0; the only one by default")
  .option("--embedding <name>", "state dict: matrix of the embedding; found by name")
  .addOption(
    repeated("--linear <name>", "state dict: matrix of a linear layer behind; may be repeated, in order"),
  )
  .addOption(
    new Option("--nonlinearity <name>", "state dict of nn.RNN: tanh by default").choices(["tanh", "relu"]),
  )
  .addOption(
    new Option("--collect <steps>", "state dict: outputs of the last step or of all").choices([
      "last",
      "all",
    ]),
  )
  .addOption(
    new Option(
      "--quantize <type>",
      "arithmetic of the products with states, in the onnx kernel; float32 by default",
    ).choices(["int8"]),
  )
  .action((source: string, options: ImportOptions) => importFile(source, options));

program
  .command("inspect")
  .description("show program, tensors and cells of a model, or of what would be made of a file")
  .argument("<model>", "name of a model of the zoo, a model's folder, or a file to import")
  .action((model: string) => inspect(model));

program
  .command("verify")
  .description(
    "check that a model's cells give a row the same alone and in any company; exit status 1 where not",
  )
  .argument("<model>", "name of a model of the zoo, or a model's folder or module")
  .option("--seed <number>", "seed of the random rows", integer(0, 2 ** 31 - 1), 1)
  .option("--json", "print as JSON", false)
  .action((model: string, options: VerifyCommandOptions) => verify(model, options));

program.addCommand(profileCommand());
program.addCommand(benchCommand());
program.addCommand(loadCommand());
program.addCommand(traceCommand());
program.addCommand(replayCommand());
program.addCommand(simulateCommand());
program.addCommand(planCommand());
program.addCommand(gatewayCommand(version()));
program.addCommand(keysCommand());

/** Exit status of a wrong command line, as the shell's own commands have it. */
const USAGE = 2;

endWithOutput();
try {
  await program.parseAsync();
} catch (error) {
  const { code, message } = Fault.from(error);
  process.stderr.write(`cellbatch: ${message} (${code})\n`);
  process.exitCode = 1;
}

function modelOption(): Option {
  return repeated("--model <path>", "folder or module of a model; may be repeated; the zoo by default");
}

function repeated(flags: string, description: string): Option {
  return new Option(flags, description).argParser((value: string, before: string[] = []) => [
    ...before,
    value,
  ]);
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be an integer from ${least} to ${most}.`);
  };
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("It must be a number.");
}

function version(): string {
  const file = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
