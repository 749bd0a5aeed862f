// The function that `cellbatch gateway --functions aws-lambda` calls: one batch per call, on the runtime inside this process.
// MODEL is the folder of the model in the deployment; the first of the zoo where it is not set.
import { zooModels } from "cellbatch";
import { functionHandler } from "cellbatch/functions";

const loaded = functionHandler(process.env.MODEL ?? zooModels().folders[0]);

export async function handler(event) {
  const { handle } = await loaded;
  return handle(event);
}
