export { Random } from "../planner/random.ts";
