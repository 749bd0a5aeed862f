// A Lambda handler as lambda-local loads one: that of deploy/lambda, on the built package.
const loaded = import("../../dist/src/functions/handler.js").then(({ batchHandler }) => batchHandler(process.env.MODEL));

exports.handler = async (event) => {
  if (event.model === "broken") throw new Error("the handler broke");
  const { handle } = await loaded;
  return handle(event);
};
